"""Pictures of any origin: what they are, by their header; whether they are whole; their pixels."""
