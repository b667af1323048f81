"""The decoder that computes each prompt once: its jobs, its cache and its random numbers."""
