"""The training loop and everything around it: monitors, alarms, checkpoints, progress."""
