"""Boards to publish and to check: pages, plots, folders of records. No torch here."""
