"""What goes into a robot shard, and how its tables follow from it."""
