"""Retention: days and model versions that nothing needs any more are deleted."""
