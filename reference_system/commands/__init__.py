"""Commands: the verbs of `workbook`, the entry points of its processes, and what both are made of.

In: the command line and the settings. Out: one stage called, or several put together.
Invariant: the module of a verb exposes `app = typer.Typer(...)`, and importing it imports nothing heavy; every other
module is imported where it is needed.
"""
