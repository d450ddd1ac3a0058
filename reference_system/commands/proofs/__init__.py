"""Verbs that measure or prove: `verify`, `drill`, `bench`, `load`."""
