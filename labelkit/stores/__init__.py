"""What outlives a run: the label store, and features on disk."""
