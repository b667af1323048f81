"""Rewards that `tieout init` copies, one file a kind of task."""
