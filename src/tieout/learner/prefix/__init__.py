"""Compute each prompt once: layouts, shared-prefix attention and its self-check."""
