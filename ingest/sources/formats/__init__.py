"""Formats that files of any kind of data may have, read in blocks or parts, and none of it trusted."""
