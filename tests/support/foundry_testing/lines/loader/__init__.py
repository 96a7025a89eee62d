"""Batches of lines, and a version of them to look into."""
