"""Datasets: the contract, the sources, the splits, the views and the batches."""
