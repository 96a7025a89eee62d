"""LeRobot datasets, as LeRobot itself writes them."""
