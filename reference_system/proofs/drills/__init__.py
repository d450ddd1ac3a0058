"""Fault drills: kills, pauses, duplicates, disorder, corruption; then the ledger."""
