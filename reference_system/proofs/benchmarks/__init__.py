"""Benchmarks: each measures the system and its baselines in turn in one run."""
