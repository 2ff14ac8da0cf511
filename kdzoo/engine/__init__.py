"""The training engine: one loop for all strategies, its checkpoints, and evaluation."""
