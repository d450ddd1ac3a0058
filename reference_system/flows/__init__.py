"""Flows: where stages meet, on a schedule or on demand (Prefect)."""
