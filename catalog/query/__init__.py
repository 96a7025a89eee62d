"""SQL over a store, and what kinds show of versions."""
