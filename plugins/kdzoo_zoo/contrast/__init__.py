"""Strategies that contrast each sample with others, by a memory of all training samples."""
