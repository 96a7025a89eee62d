"""Robot motion for tests: arms by their kinematics, led by hand from place to place, and what is recorded
of it."""
