"""What a run may learn: a folder a task, all behind one protocol."""
