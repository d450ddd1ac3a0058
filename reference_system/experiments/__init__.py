"""Experiments: answers of two versions → which one is better, and how sure that is.

In: a treatment's version, a share and a salt; exposures and what viewers did. Out: the effect over time, with an
interval that may be looked at at any moment.
Invariant: an arm is decided by the hash of the viewer alone; nothing is compared that was not assigned by chance.
"""
