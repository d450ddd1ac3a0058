"""Flows: where the stages meet, as Prefect runs them.

In: JSON parameters and the settings. Out: what the stages wrote, and a small summary.
Invariant: a flow can be run again at any time, over any range, with the same result.
"""
