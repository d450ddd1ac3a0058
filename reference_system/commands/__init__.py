"""Commands: the verbs of `workbook` and the entry points of its processes.

In: the command line and the settings. Out: one stage called, or several put together.
Invariant: importing a module here imports typer and nothing heavy; each exposes `app = typer.Typer(...)`.
"""
