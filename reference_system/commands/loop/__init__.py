"""Verbs about the loop: run a flow now, change the world, read what happened."""
