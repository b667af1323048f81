"""Losses: pure functions of tensors. They know no model, no batch and no config, and they take no mean.

Shapes: T tokens, P pairs, N completions. Log-probabilities are in nats. A mean belongs to the optimizer step, whose
denominators only `Batch` knows; so gradient accumulation is exact by construction.
"""
