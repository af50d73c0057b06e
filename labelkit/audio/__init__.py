"""Recordings: decoding, faults, spectrograms."""
