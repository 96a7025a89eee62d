"""Batches of robot data, and reading it by episode and frame."""
