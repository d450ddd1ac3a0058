"""Dataset import: a reader's own file → the lake of a dataset; apart from the loop.

In: a Parquet or CSV file or a folder of parts, and what its reader says about it. Out: lake rows of the very records
that the live system consumes, and a report.
Invariant: all or nothing, and the same file again adds nothing; what is no valid event is counted and shown, never
repaired.
"""
