"""Which of several policies is better, and how sure that is, from the reports of their rollouts."""
