"""What of an episode goes into a shard, and what a shard tells of its episodes."""
