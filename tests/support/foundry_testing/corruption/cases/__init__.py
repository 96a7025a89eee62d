"""The cases of every form."""
