"""What is known of a run and of those that it began with: one table, from text to success."""
