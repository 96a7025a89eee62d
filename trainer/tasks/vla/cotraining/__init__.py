"""Policies that learn pairs and text beside robots, so that their backbone keeps what it knew."""
