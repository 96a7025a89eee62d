"""gym-pusht: a disc pushes a T onto its outline, with demonstrations by a planner."""
