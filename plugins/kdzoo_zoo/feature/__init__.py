"""Strategies that match the teacher's feature maps."""
