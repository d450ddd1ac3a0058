"""Verbs about models and their releases."""
