"""Processes: the entry point of each process that supervisord or `workbook up` starts.

In: the settings. Out: one stage or flow, wired to its tools, running until it is told to end.
Invariant: a process waits for what it needs, and ends cleanly on SIGTERM.
"""
