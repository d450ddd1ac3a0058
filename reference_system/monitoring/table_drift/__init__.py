"""Drift between any two tables, column by column and chunk by chunk; apart from the loop."""
