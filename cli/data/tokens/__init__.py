"""foundry-data tokenizer and tokenize: tokenizers, and versions of tokens by them."""
