"""A kinematic tabletop: one or two arms moved by pose and gripper, coloured objects, tasks in language."""
