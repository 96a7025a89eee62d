"""The kind `pairs` as the catalogue knows it: its tables, and how versions are shown and validated."""
