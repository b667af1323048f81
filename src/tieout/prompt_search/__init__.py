"""Search for a better prompt: only a text sampler and a reward are needed, no weights and no log-probabilities."""
