"""What numbers mean by the motion that they tell: other readings, and the units of what carries a tool."""
