"""What arrays look like, and how actions and states belong together."""
