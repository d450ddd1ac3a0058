"""Proofs: what shows that the guarantees hold: the ledger, fault drills, parity, benchmarks.

In: a system, the live one or one made for the purpose. Out: a report with figures and every difference.
Invariant: a proof changes nothing in the live system, and can fail.
"""
