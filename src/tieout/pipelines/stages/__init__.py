"""Stages of a recipe."""
