"""Call rewards and turn what they return into outcomes."""
