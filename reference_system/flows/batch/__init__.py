"""Batch scoring: partitions of payments or of viewers, seen whole or not at all."""
