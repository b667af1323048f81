"""Train on a server that others run: a learner over the Tinker API."""
