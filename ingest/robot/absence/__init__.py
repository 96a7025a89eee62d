"""What a source holds and nothing takes, and what is asked for and not there."""
