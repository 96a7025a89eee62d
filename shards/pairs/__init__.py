"""What a shard of image-text pairs holds."""
