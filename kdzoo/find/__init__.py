"""A race of strategies and their parameters within a budget, and what it finds."""
