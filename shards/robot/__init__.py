"""What a robot shard holds: episodes of frames, by the names of their members."""
