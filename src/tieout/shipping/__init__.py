"""Package a trained policy: candidate, reload check and model card."""
