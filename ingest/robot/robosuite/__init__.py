"""robosuite: its robots, and how its controllers read actions."""
