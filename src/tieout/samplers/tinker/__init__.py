"""Sample on the training server that trains."""
