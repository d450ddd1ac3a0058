"""A page for every viewer who was active lately, made ahead, in partitions by the hash of the viewer.

In: the states of now. Out: `batch/recommendation/<day>.parquet`, one row a viewer.
Invariant: all pages of a file are those of one moment, and each is the page that the real-time service would have
composed from the same states. The run works on a copy of the online store, so one that continues after a kill reads
what it read before, whatever the stream has written since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Floats
from reference_system.assignment import place_of
from reference_system.clock import SimulatedClock
from reference_system.errors import StateError
from reference_system.features.feast import store as feast_store
from reference_system.flows.batch.case import BatchCase
from reference_system.flows.batch.champion import champion, model_digest
from reference_system.flows.batch.days import day_named
from reference_system.flows.batch.partitions import (
    BatchSource,
    Partitions,
    Passed,
    Written,
    open_draft,
    source_of,
)
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import Bundle
from reference_system.serving.bentoml_service import ranker_model
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.recommendation.catalogue import ServedCatalogue, refresh_catalogue
from reference_system.serving.recommendation.pages import compose
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.use_cases.recommendation.events import IMPRESSIONS

_ACTIVE = timedelta(days=7)
_BUCKETS = 8
_SALT = "batch"
_PAGE = 10
_VIEWERS = "viewers.txt"
_TIMESTAMP = pa.timestamp("us", tz="UTC")
PAGE_SCHEMA = pa.schema(
    [
        pa.field("viewer_id", pa.string()),
        pa.field("video_ids", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("event_timestamp", _TIMESTAMP),
        pa.field("model_version", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageInputs:
    """What every page of a run is composed from."""

    version: str
    moment: datetime
    catalogue: ServedCatalogue
    read: ReadStates


def compose_pages(
    paths: StatePaths, now: datetime, *, force: bool, passed: Passed, tell: Callable[[str], None]
) -> Written:
    """Make the pages of now, or those that an interrupted run of this day has left.

    Raises:
        StateError: if there is no champion, no active viewer, or states cannot be read.
    """
    bundle = champion(paths, "recommendation", recommendation.INPUTS)
    target = paths.batch / "recommendation" / f"{now:%Y-%m-%d}.parquet"
    _remove_other_days(target)
    with open_draft(target, "score-batch recommendation") as draft:
        source = None if force else draft.source
        if source is not None and source.model != model_digest(bundle):
            source = None
        if source is None:
            draft.clear()
            _freeze(paths, draft.folder, now)
        with feast_store.connected(StatePaths(draft.folder)) as store:
            if source is None:
                states = feast_store.states_digest(store, recommendation.VIEWS)
                source = _source(states, draft.folder, now, bundle)
                if not force and source_of(target) == source:
                    return draft.already_done()
                draft.begin(source)
            read = partial(feast_store.read_states, store)
            partitions = _partitions(read, draft.folder, source, bundle)
            return draft.finish(partitions, passed=passed, tell=tell)


def _freeze(paths: StatePaths, folder: Path, now: datetime) -> None:
    """Put what the pages of this moment are made of into the folder."""
    shown = delta_lake.read(paths.lake, IMPRESSIONS, start=now - _ACTIVE, columns=["viewer_id"])
    viewers = sorted(set().union(*(pc.unique(batch["viewer_id"]).to_pylist() for batch in shown)))
    if not viewers:
        raise StateError(
            f"no viewer was active in the {_ACTIVE.days} days before {now:%Y-%m-%d}", next_command="workbook status"
        )
    (folder / _VIEWERS).write_text("\n".join(viewers), encoding="utf-8")
    feast_store.copy_online(paths, StatePaths(folder))


def _source(states: str, folder: Path, now: datetime, bundle: Bundle) -> BatchSource:
    digest = hashlib.sha256((folder / _VIEWERS).read_bytes())
    digest.update(states.encode())
    return BatchSource(
        use_case="recommendation",
        event_timestamp=now,
        model_version=bundle.manifest.model_version,
        model=model_digest(bundle),
        inputs=digest.hexdigest(),
    )


def _partitions(read: ReadStates, folder: Path, source: BatchSource, bundle: Bundle) -> Partitions:
    buckets: dict[str, list[str]] = {str(number): [] for number in range(_BUCKETS)}
    for viewer in (folder / _VIEWERS).read_text(encoding="utf-8").split("\n"):
        buckets[str(int(place_of(viewer, _SALT) * _BUCKETS))].append(viewer)
    model = ranker_model(bundle)
    given = _PageInputs(
        version=model.version,
        moment=source.event_timestamp,
        catalogue=refresh_catalogue(model, read, source.event_timestamp),
        read=read,
    )
    return Partitions(names=tuple(buckets), schema=PAGE_SCHEMA, make=lambda name: _composed(buckets[name], given))


def _composed(viewers: Sequence[str], given: _PageInputs) -> pa.Table:
    pages = [compose(viewer, _PAGE, given.moment, given.catalogue, given.read) for viewer in viewers]
    broken = sum(page.inputs is None for page in pages)
    if broken:
        raise StateError(f"the states of {broken} viewers cannot be read", next_command="workbook etl")
    return pa.table(
        [
            viewers,
            [[item.video_id for item in page.items] for page in pages],
            [[item.score for item in page.items] for page in pages],
            [given.moment] * len(viewers),
            [given.version] * len(viewers),
        ],
        schema=PAGE_SCHEMA,
    )


def _remove_other_days(target: Path) -> None:
    """Pages of a day that has passed are not finished any more."""
    for folder in target.parent.glob(".*"):
        other = folder.with_name(f"{folder.name.removeprefix('.')}.parquet")
        if other != target:
            with suppress(StateError), open_draft(other, "score-batch recommendation") as draft:
                draft.clear()


def _write(paths: StatePaths, day: str | None, *, force: bool, passed: Passed, tell: Callable[[str], None]) -> Written:
    """Pages for everybody who was active lately, from the states of now."""
    now = SimulatedClock(paths.clock).now()
    if day is not None and day_named(day).date() != now.date():
        raise StateError(f"pages are made from the states of now, {now:%Y-%m-%d}; not for {day}")
    return compose_pages(paths, now, force=force, passed=passed, tell=tell)


def _scores(column: pa.ChunkedArray) -> Floats:
    """The scores of every place of every page."""
    found: Floats = pa.chunked_array([chunk.flatten() for chunk in column.chunks]).to_numpy()
    return found


CASE = BatchCase(write=_write, of_past_days=False, score_column="scores", scores=_scores)
