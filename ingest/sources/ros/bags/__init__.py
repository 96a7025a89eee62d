"""Bags of any sort: which files they are, what these hold, and what is broken in them."""
