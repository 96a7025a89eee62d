"""Windows as WebDataset tars: training samples as the loader gives them, for loaders of other people."""
