"""The first task: vision-language-action policies from robot data."""
