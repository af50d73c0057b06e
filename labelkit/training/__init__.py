"""Training: batches, augmentation, losses, the trainer, and models that judge unseen clips."""
