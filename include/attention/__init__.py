"""Attention: what a person decides about an order."""
