"""Releases: shadow → canary → champion or rolled back, with guardrails and their evidence."""
