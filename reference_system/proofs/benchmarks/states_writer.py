"""A process that writes to the online store continuously while reads are measured.

In: the database and the names of its tables. Out: batches of states, each newer than the stored one.
Invariant: it writes through the same table as ingestion, with the same guard; it ends on request, or when the
connection closes.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import sleep

from reference_system.features.feast.packed_table import Connections, PackedTable

# More commits and states per second than ingestion writes while it catches up.
STATES_A_WRITE = 100
PAUSE_SECONDS = 0.005


def write_until_told(database: Path, tables: list[str], told: Connection) -> None:
    """Write `STATES_A_WRITE` states to each table in turn; sends `None` after the first, ends at any message."""
    with closing(sqlite3.connect(database)) as reader:
        stored = {
            table: reader.execute(f'SELECT entity_key, event_ts, value FROM "{table}"').fetchall()  # noqa: S608 - our own tables
            for table in tables
        }
    connections, chance = Connections(database), Random(0)  # noqa: S311 - not for cryptography
    for number in count(1):
        for table, states in stored.items():
            some = chance.sample(states, STATES_A_WRITE)
            PackedTable(connections, table, "value").write(
                [(key, time + number, number, 0, state) for key, time, state in some]
            )
            sleep(PAUSE_SECONDS)
        if number == 1:
            told.send(None)
        if told.poll():
            break
    connections.close()
