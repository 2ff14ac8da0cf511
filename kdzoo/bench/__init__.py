"""Benches: the plan, the teachers, and running the cells."""
