"""Verbs about data: datasets of a reader, features, dead letters, stream state, schemas."""
