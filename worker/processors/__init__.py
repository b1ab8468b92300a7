"""Built-in processors. Each module imports lightly: the planner loads it too, to know its version and parameters."""
