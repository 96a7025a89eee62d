"""A LeRobot dataset on disk: where its files lie, what is in them, and what writes them."""
