"""The NMP, which gives the passports: its calls, its connection, and how its answers are read."""
