"""Ranks: shared work, sharding and random state."""
