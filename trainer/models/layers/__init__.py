"""What models are made of and how it begins: attention and its block, losses, first weights."""
