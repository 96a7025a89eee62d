"""The task of language models: the next token of documents."""
