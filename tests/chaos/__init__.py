"""Chaos: a real stack under faults, kills, freezes and silent cuts; a checker decides whether the promises held."""
