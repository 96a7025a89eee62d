"""What is probably wrong with pairs that are whole."""

CHECKS = ()
