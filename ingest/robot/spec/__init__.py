"""What a spec of robot data says, and its strict reading."""
