"""Verbs about the design exercises."""
