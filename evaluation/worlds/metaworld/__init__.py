"""Meta-World: fifty tasks of one Sawyer arm on a table, simulated by MuJoCo, with scripted experts."""
