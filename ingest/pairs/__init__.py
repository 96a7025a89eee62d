"""Image-text pairs of sources into shards, and the tables of versions from shards."""
