"""foundry-data stats, and the tables and pictures that it prints."""
