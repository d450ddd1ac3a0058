"""Features: lake and stream → values.

In: the lake's events. Out: windowed values for training (`history/values.py`), window state for the online store
(`history/states.py`, `stream/state.py`) and both through Feast (`feast/store.py`).
Invariant: history, stream and request give the same value for the same declaration, entity and moment.
"""
