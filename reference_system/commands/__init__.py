"""Commands: the verbs of `workbook`, one file each, in a folder a subject.

In: the command line and the settings. Out: what a stage, a flow or a proof says, as a table or as JSON.
Invariant: a verb's module exposes `app = typer.Typer(...)` and imports nothing heavy; the rest is imported when it is
needed. What several verbs share is in `terminal/`.
"""
