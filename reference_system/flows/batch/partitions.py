"""A batch that grows partition by partition and is seen whole or not at all.

In: what a batch is made of (`BatchSource`), its partitions and a function that makes one. Out: one Parquet file.
Invariant: the same source gives the same bytes, however often the run was killed on the way. A partition that was
finished is not made again; the file of the batch before stays until this one is complete.

The draft is a folder beside the file, `.<name>/`: the finished partitions and `draft.json`, which names them with
their digests. The file itself says in its metadata what it was made of, so file and record cannot come apart.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from reference_system.replaced_files import replace_file
from reference_system.stack.locks import LOCK_NAME, one_at_a_time

# Where a run can be interrupted; tests do it there.
KillPoint = Literal["partition made", "partition finished", "batch assembled"]
Passed = Callable[[KillPoint], None]
BatchOutcome = Literal["scored", "continued", "already done"]
_DRAFT = "draft.json"
_SOURCE = b"batch"


class BatchSource(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch is made of; `model` and `inputs` are digests."""

    use_case: str
    event_timestamp: datetime
    model_version: str
    model: str
    inputs: str


class _Finished(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    digest: str


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    source: BatchSource
    finished: dict[str, _Finished]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """The parts of a batch, in the order of the file."""

    names: Sequence[str]
    schema: pa.Schema
    make: Callable[[str], pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a run did; `made_rows` are those of this run, without what an earlier one had finished."""

    file: Path
    source: BatchSource
    outcome: BatchOutcome
    rows: int
    made_rows: int


class Draft:
    """The folder in which a batch grows; from `open_draft`."""

    def __init__(self, target: Path) -> None:
        """Nothing is read yet."""
        self.target = target
        self.folder = draft_folder(target)

    @property
    def source(self) -> BatchSource | None:
        """What an interrupted run was making, if there was one."""
        progress = self._progress()
        return None if progress is None else progress.source

    def clear(self) -> None:
        """Forget what an interrupted run left."""
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != LOCK_NAME:
                entry.unlink()

    def begin(self, source: BatchSource) -> None:
        """From now on the draft is one of this source; nothing of it is finished."""
        self._save(_Progress(source=source, finished={}))

    def already_done(self) -> Written:
        """The file is there and made of this source: nothing to do."""
        self.clear()
        source = source_of(self.target)
        if source is None:
            raise ValueError(f"{self.target} is no batch")
        rows = pq.read_metadata(self.target).num_rows
        return Written(file=self.target, source=source, outcome="already done", rows=rows, made_rows=0)

    def finish(self, partitions: Partitions, *, passed: Passed, tell: Callable[[str], None]) -> Written:
        """Make the partitions that are missing, put all of them together and replace the file."""
        progress = self._progress()
        if progress is None:
            raise ValueError("the draft has not begun")
        kept = {name: part for name, part in progress.finished.items() if self._is_whole(name, part)}
        finished = dict(kept)
        for number, name in enumerate(partitions.names, 1):
            if name in kept:
                continue
            finished[name] = self._add(name, partitions.make(name).cast(partitions.schema), passed)
            self._save(_Progress(source=progress.source, finished=finished))
            passed("partition finished")
            tell(f"{self.target.stem}: partition {number} of {len(partitions.names)}, {finished[name].rows} rows")
        self._assemble(progress.source, partitions)
        passed("batch assembled")
        (self.folder / self.target.name).replace(self.target)
        self.clear()
        rows = sum(part.rows for part in finished.values())
        made = rows - sum(part.rows for part in kept.values())
        outcome: BatchOutcome = "continued" if kept else "scored"
        return Written(file=self.target, source=progress.source, outcome=outcome, rows=rows, made_rows=made)

    def _add(self, name: str, table: pa.Table, passed: Passed) -> _Finished:
        passed("partition made")
        content = table_bytes(table)
        self._part(name).write_bytes(content)
        return _Finished(rows=table.num_rows, digest=hashlib.sha256(content).hexdigest())

    def _is_whole(self, name: str, part: _Finished) -> bool:
        path = self._part(name)
        return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == part.digest

    def _assemble(self, source: BatchSource, partitions: Partitions) -> None:
        schema = partitions.schema.with_metadata({_SOURCE: msgspec.json.encode(source)})
        with (self.folder / self.target.name).open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for name in partitions.names:
                    part = pq.ParquetFile(self._part(name)).read()
                    if part.num_rows:
                        writer.write_table(part.replace_schema_metadata(schema.metadata))
            file.flush()
            os.fsync(file.fileno())

    def _part(self, name: str) -> Path:
        return self.folder / f"part-{name}.parquet"

    def _progress(self) -> _Progress | None:
        try:
            return msgspec.json.decode((self.folder / _DRAFT).read_bytes(), type=_Progress)
        except (FileNotFoundError, msgspec.MsgspecError):  # a power cut can leave half of it
            return None

    def _save(self, progress: _Progress) -> None:
        replace_file(self.folder / _DRAFT, msgspec.json.encode(progress))


@contextmanager
def open_draft(target: Path, verb: str) -> Iterator[Draft]:
    """The draft of a batch file, for one run at a time.

    Raises:
        StateError: if another run is at work on it; the message says which.
    """
    with one_at_a_time(draft_folder(target), verb):
        yield Draft(target)


def draft_folder(target: Path) -> Path:
    """Where the draft of a batch file is."""
    return target.with_name(f".{target.stem}")


def source_of(target: Path) -> BatchSource | None:
    """What a batch file was made of; `None` if there is no such file."""
    with suppress(OSError, pa.ArrowInvalid, msgspec.MsgspecError):
        metadata = pq.read_schema(target).metadata or {}
        if _SOURCE in metadata:
            return msgspec.json.decode(metadata[_SOURCE], type=BatchSource)
    return None


def table_bytes(table: pa.Table) -> bytes:
    """The table as Parquet: equal rows give equal bytes, however they lay in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
