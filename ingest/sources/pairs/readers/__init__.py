"""Pairs as each form of files holds them: tars, tables of text, parquet, COCO's JSON, loose pictures."""
