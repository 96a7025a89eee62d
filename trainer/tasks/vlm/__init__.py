"""The task of vision-language models: answers about pictures."""
