"""Parity: served features against features recomputed from history."""
