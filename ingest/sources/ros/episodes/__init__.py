"""Where episodes begin and end in a bag."""
