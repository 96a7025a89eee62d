"""What a version of lines holds."""
