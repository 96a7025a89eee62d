"""Worlds that live in a process of their own, with another interpreter and its own packages."""
