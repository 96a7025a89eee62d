"""How text files become shards of lines, and these a version."""
