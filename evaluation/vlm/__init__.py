"""The scorecard of a vision-language model on held-out pairs."""
