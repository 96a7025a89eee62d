"""Open loop: what a policy predicts beside what was demonstrated."""
