"""Files as tables to compare: Parquet or CSV, read chunk by chunk, as often as it takes.

In: a path. Out: a table in batches; rows of it for a page.
Invariant: a small file is read once and kept, a large one is read again for each pass and never kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from reference_system.dataset_import.files.source_files import SourceFile, open_source
from reference_system.errors import TableRefused
from reference_system.monitoring.table_drift.columns import ColumnBatch, TableView, held

if TYPE_CHECKING:
    import pandas as pd

    from reference_system.monitoring.table_drift.report import TableDrift

_KEPT_BYTES = 256 * 1024 * 1024
Shown = Callable[[int, float], None]


@dataclass(slots=True, kw_only=True)
class TableFile:
    """A file that was opened; `broken` CSV lines, with another number of cells than the header, are left out."""

    source: SourceFile
    shown: Shown
    broken: set[int] = field(default_factory=set)
    passes: int = 0

    def view(self, name: str) -> TableView:
        """The table in batches."""
        types = {column.strip(): self.source.types.get(column, pa.string()) for column in self.source.columns}
        table = TableView(name=name, types=types, batches=self._batches)
        return held(table) if self.source.size <= _KEPT_BYTES else table

    def _batches(self) -> Iterator[ColumnBatch]:
        for chunk in self.source.chunks(self.source.columns):
            self.broken.update(number for number, _, _ in chunk.broken)
            self.shown(self.passes, chunk.share)
            yield {column.strip(): cells for column, cells in chunk.columns.items()}
        self.passes += 1


def open_table(path: Path, shown: Shown) -> TableFile:
    """Open a file.

    Args:
        path: the file.
        shown: is told how often it has been read, and how much of it this time (0 to 1).

    Raises:
        ImportRefused: if there is no such file, or it is no table.
        TableRefused: if two of its columns have one name.
    """
    source = open_source(path)
    # Spaces around a name are no part of it, as they are none of a cell.
    twice = [name for name, count in Counter(column.strip() for column in source.columns).items() if count > 1]
    if twice:
        raise TableRefused(f"{path} has more than one column {twice[0]!r}")
    return TableFile(source=source, shown=shown)


def sampled_rows(table: TableView, found: TableDrift, rows: int, most: int) -> pd.DataFrame:
    """At most `most` of the rows, evenly spaced: the compared columns as floats or texts."""
    import pandas as pd

    from reference_system.monitoring.table_drift.cells import numbers_of, texts_of

    stride, start = -(-rows // most), 0
    parts: dict[str, list[np.ndarray]] = {name: [] for name in found.columns}
    for batch in table.batches():
        first = -start % stride
        for name, column in found.columns.items():
            reading = found.figures[name].reading
            if column.kind == "number":
                parts[name].append(numbers_of(batch[name], reading)[0][first::stride])
            else:
                texts, codes = texts_of(batch[name], truth=reading == "truth")
                shown = np.array(["(missing)" if text is None else text for text in texts], object)
                parts[name].append(shown[codes[first::stride]])
        start += len(next(iter(batch.values())))
    return pd.DataFrame({name: np.concatenate(each) for name, each in parts.items()}, columns=list(found.columns))
