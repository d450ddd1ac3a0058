"""Features: lake and stream → values.

In: the lake's events. Out: windowed values for training (`duckdb_history.py`), window state for the online store
(`duckdb_snapshot.py`, `stream_state.py`) and both through Feast (`feast_store.py`).
Invariant: history, stream and request give the same value for the same declaration, entity and moment.
"""
