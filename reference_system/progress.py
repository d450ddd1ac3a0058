"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

# The share that is done, from 0 to 1, and what happens now.
Progress = Callable[[float, str], None]
