"""Fault drills: kill, pause, repeat, disorder, corrupt; then the ledger."""
