"""Chaos: a real stack under faults and SIGKILL, and a checker that decides whether the promises held."""
