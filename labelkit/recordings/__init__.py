"""What is known of recordings: features, embeddings, faults, duplicates."""
