"""Sources that are damaged in every way that is known, and what becomes of each."""
