"""The training loop: batches, validation, checkpoints, processes."""
