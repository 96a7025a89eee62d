"""Training: one loop, and what it needs, for every task; `tasks` holds what is learnt."""
