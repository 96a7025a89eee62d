"""Rows of image-text pairs: packed tokens, and the pictures whose tokens stand among them."""
