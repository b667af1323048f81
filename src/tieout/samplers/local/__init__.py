"""Sample in process, sharing weights with the learner."""
