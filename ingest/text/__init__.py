"""How documents become shards of text, and these a version."""
