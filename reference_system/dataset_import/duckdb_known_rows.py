"""Known rows: which rows of a file repeat or contradict one another, or what a dataset holds.

In: the valid rows of a file, and the dataset's lake if there is one. Out: a verdict for each row that is not new.
Invariant: of rows with one id and one content the first is kept. Of rows with one id and different contents none is:
nobody knows which of them is right, and it must not depend on which comes first.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from reference_system.arrays import Ints
from reference_system.dataset_import.file_shapes import ROW, FileShape
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRows:
    """Row numbers; each of `contradictions` comes with a row of the file that has the same id and another content."""

    duplicates: Ints
    contradictions: tuple[tuple[int, int], ...]
    held: Ints
    contradict_held: Ints

    def all(self) -> Ints:
        """Every row that is not new."""
        against = np.array([row for row, _ in self.contradictions], np.int64)
        return np.concatenate([self.duplicates, against, self.held, self.contradict_held])


def known_rows(shape: FileShape, rows: pa.Table, lake: Path | None, *, spill: Path) -> KnownRows:
    """The rows that are not new; `lake` is the dataset's, `None` for a new one."""
    same = " AND ".join(f'r."{name}" IS NOT DISTINCT FROM o."{name}"' for name in shape.content)
    key = shape.event_id
    with connection(spill, any_order=True) as duck:
        duck.register("incoming", rows)
        duck.execute(f"""
            CREATE TEMP TABLE again AS
            WITH repeated AS (SELECT {key}, min({ROW}) AS first FROM incoming GROUP BY {key} HAVING count(*) > 1),
            firsts AS (SELECT incoming.* FROM incoming JOIN repeated ON incoming.{ROW} = repeated.first),
            compared AS (
                SELECT {key}, r.{ROW}, o.{ROW} AS first, {same} AS same
                FROM incoming AS r JOIN firsts AS o USING ({key})
            )
            SELECT *, min({ROW}) FILTER (NOT same) OVER (PARTITION BY {key}) AS other FROM compared
        """)
        contradictions = duck.sql(f"""
            SELECT {ROW}, if(same, other, first) FROM again WHERE other IS NOT NULL ORDER BY {ROW}
        """).fetchall()
        duplicates = duck.sql(f"""
            SELECT {ROW} FROM again WHERE other IS NULL AND {ROW} <> first ORDER BY {ROW}
        """).fetchall()
        before = []
        if lake is not None:
            for topic in shape.topics:
                duck.register(topic.name, delta_lake.read(lake, topic, columns=topic.record.__struct_fields__))
            before = duck.sql(f"""
                SELECT r.{ROW}, {same} AS same FROM incoming AS r JOIN ({shape.held}) AS o USING ({key})
                WHERE r.{ROW} NOT IN (SELECT {ROW} FROM again WHERE other IS NOT NULL OR {ROW} <> first)
                ORDER BY r.{ROW}
            """).fetchall()
    return KnownRows(
        duplicates=_numbers(row for (row,) in duplicates),
        contradictions=tuple(contradictions),
        held=_numbers(row for row, same in before if same),
        contradict_held=_numbers(row for row, same in before if not same),
    )


def _numbers(rows: Iterable[int]) -> Ints:
    return np.array(list(rows), np.int64)
