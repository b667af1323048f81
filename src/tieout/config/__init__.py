"""Configuration: dataclasses from plain values, YAML and the command line."""
