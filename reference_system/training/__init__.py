"""Training: values → candidate.

In: the lake's events and labels, features by a point-in-time join. Out: fitted candidates with their evaluation on
the weeks after the ones they learned from.
Invariant: no row knows anything that was not known at its moment, and no label anything that came after `as_of`.
"""
