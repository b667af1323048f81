"""Plans of memory and time: from a short measurement of the model, or from its shapes for a device elsewhere."""
