"""Verbs about the running system: start, look, stop, clean."""
