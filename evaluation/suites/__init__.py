"""Suites: tasks by category, run with their controls and counted together."""
