"""Models: what they read, what they are made of, how they begin, and named sizes."""
