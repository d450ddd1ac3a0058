"""DuckDB, opened in one way.

In: a folder of the state directory. Out: a database in memory that reads Arrow tables.
Invariant: threads and memory are bounded, so that a query beside the live system starves nobody; nothing is
downloaded at run time; what a query spills is gone when the connection closes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb


@contextmanager
def connection(spill: Path, *, memory_mb: int = 768, any_order: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory.

    Args:
        spill: where a folder for what exceeds the memory may stand for as long as the connection.
        memory_mb: what its tables and intermediate results may take.
        any_order: rows without ORDER BY may come in any order, which saves memory on large results.
    """
    options: dict[str, str | bool | int | float | list[str]] = {
        "threads": 2,
        "memory_limit": f"{memory_mb}MB",
        # DuckDB creates this folder when it has to and removes it when it closes.
        "temp_directory": str(spill / f"spill-{secrets.token_hex(4)}"),
        "preserve_insertion_order": not any_order,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(config=options) as duck:
        yield duck
