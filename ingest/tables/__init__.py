"""From shards to the tables of a version and its commit."""
