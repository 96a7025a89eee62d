"""Sources of text: JSON lines, Parquet, plain files and tars of them."""
