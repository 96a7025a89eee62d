"""What a shard of text holds: blocks of documents."""
