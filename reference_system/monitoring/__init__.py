"""Monitoring: truth → alarm.

In: windows of served features, scores, events and mature labels. Out: figures with verdicts, and a report.
Invariant: an alarm has a stated rate of being false; what cannot be judged is said to be so, never guessed.
"""
