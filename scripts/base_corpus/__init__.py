"""The synthetic mixture that the embedded base is trained on, from nothing. See docs/base-model.md."""
