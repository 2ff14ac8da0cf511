"""Strategies that change how the student is trained, and not what it learns."""
