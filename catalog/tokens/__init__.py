"""What a version of tokens holds: blocks of token ids, and where documents lie in them."""
