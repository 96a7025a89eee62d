"""What one message says: fields, pictures, depth."""
