"""A version of text as documents to look into."""
