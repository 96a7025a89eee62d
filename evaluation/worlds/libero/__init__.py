"""LIBERO's 130 tasks, in processes of an interpreter of their own."""
