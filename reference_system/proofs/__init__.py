"""Proofs that the guarantees hold: the ledger, fault drills, parity checks, benchmarks.

In: the live system or a scratch system. Out: a report with figures and every difference.
Invariant: a proof changes nothing in the live system, and can fail.
"""
