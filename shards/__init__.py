"""Shards: WebDataset tars with the same bytes for the same content, and the index that makes them seekable."""
