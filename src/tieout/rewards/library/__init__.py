"""Rewards that ship with tieout, one file per family."""
