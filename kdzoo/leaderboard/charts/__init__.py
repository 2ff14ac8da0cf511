"""Rows of a board as Vega-Lite charts."""
