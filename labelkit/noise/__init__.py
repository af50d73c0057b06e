"""Noise handling on arrays and callables, whatever the model."""
