"""Quality of preference pairs, measured before a method learns from them."""
