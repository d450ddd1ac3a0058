"""Baselines for benchmarks and drills: the usual implementation and the minimal one."""
