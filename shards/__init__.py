"""Shards: WebDataset tars, the same bytes for the same content, and the index that makes them seekable."""
