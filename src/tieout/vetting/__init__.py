"""Examine a reward before training on it: gold checks, attacks, calibration."""
