"""Strategies that match where the teacher looks."""
