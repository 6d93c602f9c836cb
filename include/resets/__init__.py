"""Resets: taking back what nobody claimed."""
