"""What a policy may start from: another policy, or a vision-language model."""
