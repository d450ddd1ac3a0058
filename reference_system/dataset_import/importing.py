"""Importing: a file into a dataset, all of it or nothing.

In: a file, its columns, a label delay, the name of a dataset. Out: a new version of the dataset, and a report.
Invariant: nothing is written before every row has been judged; the manifest is replaced last. The caller holds the
lock of the datasets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reference_system.dataset_import.bad_rows import BadRowLog, sentence
from reference_system.dataset_import.columns.ids import merged_types
from reference_system.dataset_import.columns.readings import HINTS, ColumnReading
from reference_system.dataset_import.columns.specs import parse_columns, readable_specs, resolve_columns
from reference_system.dataset_import.duckdb_known_rows import KnownRows, known_rows
from reference_system.dataset_import.file_shapes import ROW, FileShape, file_shape
from reference_system.dataset_import.files.csv_files import CsvOptions
from reference_system.dataset_import.files.source_files import SourceFile, digest_of, open_source
from reference_system.dataset_import.report import ImportReport
from reference_system.dataset_import.valid_rows import RowJudge
from reference_system.errors import ImportRefused, StateError
from reference_system.event_time import MICROS_PER_DAY
from reference_system.lake import datasets, delta_lake
from reference_system.lake.datasets import DatasetManifest, ImportedFile
from reference_system.progress import Progress
from reference_system.settings import Settings
from reference_system.use_cases.fraud.labels import LABEL_DELAY

# How far the work is when the file has been looked at, when it has been read, and when all rows have been judged.
_LOOKED, _READ, _JUDGED = 0.2, 0.8, 0.9
_ONE_DAY = timedelta(days=1)
_DAYS_A_COMMIT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What is asked for; `columns` is the text of the option, `label_delay` is `None` where there are no labels."""

    use_case: str
    file: Path
    columns: str | None
    dataset: str
    label_delay: timedelta | None
    skip_bad_rows: bool
    csv: CsvOptions = field(default_factory=CsvOptions)
    reading: ColumnReading = field(default_factory=ColumnReading)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A file that has been read whole: its valid rows, which of them are known, and what is wrong with the others."""

    read: int
    rows: pa.Table
    known: KnownRows
    log: BadRowLog
    id_types: dict[str, str]
    notes: list[str]
    refunds: int

    def new_rows(self) -> pa.Table:
        """The rows that the dataset does not have."""
        return self.rows.filter(pa.array(~np.isin(self.rows[ROW].to_numpy(), self.known.all())))


def import_file(settings: Settings, request: ImportRequest, *, now: datetime, progress: Progress) -> ImportReport:
    """Import a file.

    Args:
        settings: whose state directory holds the datasets.
        request: what is asked for.
        now: the machine's time: what lies later is refused.
        progress: told how far it is (0 to 1) and what happens.

    Raises:
        ImportRefused: if the file, a column or a row is not what it should be; nothing was written.
        StateError: if the dataset has another use case or label delay.
    """
    datasets.clear_leftovers(settings)
    shape = file_shape(request.use_case)
    before = datasets.find_manifest(settings, request.dataset)
    _refuse_other(request, before)
    source = open_source(request.file, request.csv)
    columns, given = _columns(request, shape, source)
    judge = RowJudge(shape, source, columns, request.reading, label_delay=_delay(request), now=now)
    lake = None if before is None else datasets.version_paths(settings, request.dataset, before.version).lake
    judged = _judge(shape, source, judge, lake=lake, spill=datasets.datasets_folder(settings), progress=progress)
    _refuse_bad(request, judged)
    new = judged.new_rows()
    imported = ImportedFile(
        file=request.file.name,
        sha256=digest_of(request.file),
        columns=columns,
        imported_at=now,
        rows=judged.read,
        imported=len(new),
        duplicates=len(judged.known.duplicates),
        held_before=len(judged.known.held),
        bad=judged.log.total,
        refunds=judged.refunds,
    )
    manifest = before
    if len(new):
        progress(_JUDGED, "writing")
        id_types = merged_types(before.id_types if before else {}, judged.id_types)
        try:
            manifest = _write(settings, request, before, new=new, imported=imported, id_types=id_types)
        except BaseException:
            datasets.clear_leftovers(settings)
            raise
    progress(1.0, "done")
    return ImportReport(
        dataset=request.dataset,
        manifest=cast("DatasetManifest", manifest),  # a new dataset has new rows, or the file was refused
        source=imported,
        bad_rows=judged.log.found(),
        notes=(*source.notes, *given, *judged.notes, *_notes(source, columns, request)),
    )


def _refuse_other(request: ImportRequest, before: DatasetManifest | None) -> None:
    if before is None:
        return
    for what, held, asked in (
        ("use case", before.use_case, request.use_case),
        ("label delay", before.label_delay, request.label_delay),
    ):
        if held != asked:
            raise StateError(
                f"the dataset {request.dataset!r} has the {what} {held}, the import says {asked}: "
                "import it under another name",
                next_command=f"workbook data describe {request.dataset}",
            )


def _columns(request: ImportRequest, shape: FileShape, source: SourceFile) -> tuple[dict[str, str], list[str]]:
    """Field → column of the fields that have one, and sentences about the others."""
    fields = tuple(shape.fields)
    named = parse_columns(request.columns, fields)
    given = request.reading.without_column(fields, (*named, *source.columns))
    needed = [name for name in fields if name not in given]
    columns = resolve_columns(named, needed, source.columns, file=str(request.file), hints=HINTS)
    return columns, list(given.values())


def _delay(request: ImportRequest) -> timedelta:
    return request.label_delay or timedelta(0)


def _judge(  # noqa: PLR0913 - what the verdicts depend on
    shape: FileShape, source: SourceFile, judge: RowJudge, *, lake: Path | None, spill: Path, progress: Progress
) -> _Judged:
    log, parts = BadRowLog(), []
    looked = _look(source, judge, progress)
    read = 0
    for chunk in source.chunks(judge.wanted):
        parts.append(judge.judge(chunk, log))
        read += chunk.rows
        progress(_LOOKED + (_READ - _LOOKED) * chunk.share, f"{read:,} rows judged")
    if not read:
        raise ImportRefused(f"{source.path} has no rows")
    if looked not in (None, read):
        raise ImportRefused(f"{source.path} changed while it was read: it had {looked:,} rows, then {read:,}")
    rows = pa.concat_tables(parts)
    progress(_READ, "looking for rows that are known")
    known = known_rows(shape, rows, lake, spill=spill)
    others = dict(known.contradictions)
    log.add(
        f"another row has the same {shape.identity} and {shape.contradiction}",
        others,
        lambda row: f"{source.named(row)}: see {source.named(others[row])}",
    )
    reason = f"the dataset holds the {shape.identity} with {shape.contradiction}"
    log.add(reason, known.contradict_held.tolist(), source.named)
    return _Judged(
        read=read,
        rows=rows,
        known=known,
        log=log,
        id_types=judge.id_types,
        notes=judge.notes(),
        refunds=judge.refunds,
    )


def _look(source: SourceFile, judge: RowJudge, progress: Progress) -> int | None:
    """Show the judge the columns that it must see whole; how many rows there are, if there are such columns."""
    if not judge.looked_at:
        return None
    rows = 0
    for chunk in source.chunks(judge.looked_at):
        judge.look(chunk)
        rows += chunk.rows
        progress(_LOOKED * chunk.share, f"{rows:,} rows looked at")
    return rows


def _refuse_bad(request: ImportRequest, judged: _Judged) -> None:
    bad = judged.log.total
    nothing_left = bad + judged.refunds == judged.read
    if (not bad or request.skip_bad_rows) and not nothing_left:
        return
    if not bad:
        raise ImportRefused(f"{request.file} holds nothing but refunds: nothing was written")
    advice = "mend the file" if nothing_left else "mend the file, or import the rest with --skip-bad-rows"
    raise ImportRefused(
        f"{request.file}: {bad:,} of {judged.read:,} rows cannot be imported: {sentence(judged.log.found())}; "
        f"nothing was written; {advice}",
        next_command=f"workbook data import {request.use_case} --help",
    )


def _write(  # noqa: PLR0913 - what goes into a version
    settings: Settings,
    request: ImportRequest,
    before: DatasetManifest | None,
    *,
    new: pa.Table,
    imported: ImportedFile,
    id_types: dict[str, str],
) -> DatasetManifest:
    """Write the next version beside the one before, then name it in the manifest."""
    shape, sources = file_shape(request.use_case), (*(before.sources if before else ()), imported)
    paths = datasets.begin_version(settings, request.dataset, before.version if before else None)
    counts = dict(before.events) if before else {}
    for topic, events in shape.events(new, _delay(request)).items():
        for part in _by_days(events):
            columns = {name: part[name] for name in topic.record.__struct_fields__}
            delta_lake.append(paths.lake, topic, delta_lake.history_table(topic, columns), versions={})
        counts[topic.name] = counts.get(topic.name, 0) + len(events)
    folder = datasets.order_folder(paths)
    folder.mkdir(exist_ok=True)
    order = new.select([shape.event_id, ROW])
    order = order.set_column(1, ROW, pc.add(order[ROW], sum(source.rows for source in sources[:-1])))
    pq.write_table(order, folder / f"{len(sources):06d}.parquet", compression="zstd")
    span = pc.min_max(new["event_timestamp"]).as_py()
    first, last = (span[end].astimezone(UTC) for end in ("min", "max"))
    manifest = DatasetManifest(
        use_case=request.use_case,
        version=before.version + 1 if before else 1,
        label_delay=request.label_delay,
        id_types=id_types,
        events=counts,
        first=min(first, before.first) if before else first,
        last=max(last, before.last) if before else last,
        sources=sources,
    )
    datasets.publish_version(settings, request.dataset, manifest)
    return manifest


def _by_days(events: pa.Table) -> Iterator[pa.Table]:
    """Slices in the order of time that touch few days each: the lake keeps one file open for every day of a commit."""
    if not len(events):
        return
    events = events.sort_by([("event_timestamp", "ascending"), (ROW, "ascending")])
    days = events["event_timestamp"].cast(pa.int64()).to_numpy() // MICROS_PER_DAY
    starts = np.flatnonzero(np.diff(days, prepend=-1))[::_DAYS_A_COMMIT].tolist()
    for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
        yield events.slice(start, end - start)


def _notes(source: SourceFile, columns: dict[str, str], request: ImportRequest) -> Iterator[str]:
    ignored = [name for name in source.columns if name not in columns.values()]
    if ignored:
        yield f"not read: {readable_specs(ignored)}"
    delay = request.label_delay
    if delay is not None and delay > LABEL_DELAY:
        yield (
            f"warning: the label delay of {delay / _ONE_DAY:g} days is longer than the {LABEL_DELAY.days} days of the "
            "declaration: these labels are never in the windows of a terminal"
        )
