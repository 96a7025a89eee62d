"""MCAP files: their records, their index, and their messages."""
