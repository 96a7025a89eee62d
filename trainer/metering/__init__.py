"""What a run tells of itself while it runs, beside its checkpoints: where records go, and signs of life."""
