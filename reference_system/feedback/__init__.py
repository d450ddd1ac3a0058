"""Feedback: answer → truth.

In: the prediction log and what happened afterwards, both in the lake. Out: predictions with mature labels.
Invariant: nothing that became known after `as_of` is ever used, and a label that is not mature is no label.
"""
