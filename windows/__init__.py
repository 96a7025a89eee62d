"""From rows of a robot dataset to what a policy sees."""
