"""Call rewards in worker processes under a deadline."""
