"""Choose preference pairs: which completions are good enough, and what a pair teaches."""
