"""Readers of image-text pairs: tars, LLaVA and COCO JSON, parquet, a table beside a folder of pictures."""
