"""A recipe examined before it runs: each check passes, warns or fails, with cause and remedy."""
