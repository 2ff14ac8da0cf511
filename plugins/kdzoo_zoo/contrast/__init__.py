"""Strategies that contrast each sample with others: of the batch, or in a memory of all training samples."""
