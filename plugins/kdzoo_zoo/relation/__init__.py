"""Strategies that match relations between samples."""
