"""Serving: champion → answer, one at a time (`bentoml_service.py`) or a day at once (`flows/prefect_batch.py`).

In: requests over HTTP, feature states, a verified bundle. Out: answers, and one prediction-log record for each.
Invariant: an answer carries one model version; a dependency that fails degrades the answer and never refuses it.
"""
