"""Registry: candidate → champion.

In: a fitted model with its evaluation. Out: a registered version with a verified bundle, and the alias `champion`.
Invariant: serving never loads bytes that were not verified; a refused bundle leaves the old one serving.
"""
