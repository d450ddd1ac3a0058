"""Workbook: a design folder → a verdict.

In: `designs/<name>/`, Markdown and TOML. Out: the problems found, the recomputed estimate, its rendered table.
Invariant: a quantity in an answer is bound to an input, a recomputed result, a target or a source that was read;
an exercise with an unbound, wrong or stale number does not pass.
"""
