"""What a robot version holds: its tables, and what their columns mean."""
