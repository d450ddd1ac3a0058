"""Experiments: which of two versions gives better answers, and how sure the result is.

In: a treatment's version, a share and a salt; exposures and viewers' activity. Out: the effect over time, with an
interval that is valid at any time.
Invariant: the hash of the viewer alone determines the arm; only randomly assigned viewers are compared.
"""
