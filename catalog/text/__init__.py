"""What a version of text holds: documents, their lengths and what their source says of them."""
