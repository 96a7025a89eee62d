"""What a shard of tokens holds, and the tokenizers that made them."""
