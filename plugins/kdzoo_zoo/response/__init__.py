"""Strategies that match the teacher's answers."""
