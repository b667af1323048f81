"""Decoding kernels for CPUs."""
