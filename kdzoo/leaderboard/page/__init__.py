"""A board as one HTML page."""
