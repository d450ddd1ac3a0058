"""Baselines: the usual way and the least possible way, which benchmarks and drills compare with."""
