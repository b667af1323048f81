"""Files of a run: atomic writes, run folders, JSON lines, machine description."""
