"""Parity by use case: the rows of the log, and how history produces the same rows.

In: logged predictions. Out: served values by name, the feature requests of the two views, and a function from their
features to the model's input rows.
Invariant: the functions of `use_cases/` assemble the model's input rows from the lake's events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.arrays import Floats, Ints, Micros
from reference_system.errors import BundleRefused
from reference_system.event_time import moment_of
from reference_system.events import Topic
from reference_system.features.history.window_sums import terms_of
from reference_system.lake import delta_lake
from reference_system.proofs.parity.questions import NO_STATE, Own, Questions
from reference_system.registry.bundles.bundle import MANIFEST, version_folder
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.use_cases.recommendation.events import CATEGORIES, IMPRESSIONS, VIDEOS
from reference_system.windows import WindowedView

INPUTS_LOGGED: dict[str, tuple[str, ...]] = {"fraud": fraud.INPUTS, "recommendation": recommendation.INPUTS}
VIEWS_SERVED: dict[str, tuple[WindowedView, WindowedView]] = {
    "fraud": (fraud.CUSTOMER_ACTIVITY, fraud.TERMINAL_RISK),
    "recommendation": (recommendation.VIEWER_ACTIVITY, recommendation.VIDEO_POPULARITY),
}
# The event that a prediction is about: its id is the prediction's `request_id`.
EVENTS: dict[str, Topic] = {"fraud": TRANSACTIONS, "recommendation": IMPRESSIONS}
LOGGED = (
    "event_timestamp",
    "created_timestamp",
    "prediction_id",
    "request_id",
    "model_version",
    "items",
    "features",
    "entity_keys",
    "state_micros",
    "catalogue_timestamp",
    "degraded",
)
# A request and its event may lie on different sides of a range's end.
_SLACK = timedelta(hours=1)

# From the features of the two views, and the rows that they are for, to the model's input rows.
Assemble = Callable[[Floats, Floats, Ints], Floats]


class _Signature(msgspec.Struct, frozen=True):
    """The fields of a bundle's manifest that parity reads."""

    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRows:
    """Predictions (`LOGGED`) and their feature vectors: one for a payment, one for each video of a page.

    `of` is the index of each row's prediction and `place` the row's index in it; both have shape (n,).
    """

    table: pa.Table
    of: Ints
    place: Ints

    def times(self, name: str) -> Micros:
        """A timestamp column by row, in microseconds; `NO_STATE` where it is null."""
        found: Micros = pc.fill_null(self.table[name].cast(pa.int64()), NO_STATE).to_numpy()[self.of]
        return found

    def column(self, name: str) -> pa.Array:
        """A column by row."""
        return self.table[name].take(pa.array(self.of)).combine_chunks()

    def of_lists(self, name: str, places: Ints) -> pa.Array:
        """From a column of lists, the element at the given index of each row."""
        lists = self.table[name].combine_chunks()
        starts = lists.offsets.to_numpy()[:-1]
        return lists.values.take(pa.array(starts[self.of] + places))

    def keys(self) -> list[tuple[str, str]]:
        """The two entity keys of each row."""
        first, second = (self.of_lists("entity_keys", place).to_pylist() for place in (0 * self.of, 1 + self.place))
        return list(zip(first, second, strict=True))


def rows_of_log(table: pa.Table, use_case: str) -> LoggedRows:
    """The rows of the predictions."""
    pages = use_case == "recommendation"
    counts = pc.list_value_length(table["items"]).to_numpy() if pages else np.ones(table.num_rows, np.int64)
    of = np.repeat(np.arange(table.num_rows), counts)
    return LoggedRows(table=table, of=of, place=np.arange(len(of)) - (np.cumsum(counts) - counts)[of])


def served_values(log: LoggedRows, bundles: Path, use_case: str) -> tuple[Floats, dict[str, int]]:
    """The logged features by current name, NaN where there is none, and the number of values by undeclared name.

    A vector is in the order of its model's signature, which is in the model's bundle.
    """
    names = INPUTS_LOGGED[use_case]
    served = np.full((len(log.of), len(names)), np.nan)
    extra: Counter[str] = Counter()
    versions = log.table["model_version"].to_pylist()
    lengths = pc.list_value_length(log.table["features"]).to_numpy()
    widths = lengths // np.maximum(np.bincount(log.of, minlength=len(lengths)), 1)
    for version, width in sorted({(v, int(w)) for v, w in zip(versions, widths.tolist(), strict=True) if w}):
        chosen = np.array([v == version for v in versions]) & (widths == width)
        values = log.table["features"].filter(pa.array(chosen)).combine_chunks().flatten().to_numpy()
        rows = np.flatnonzero(chosen[log.of])
        for column, name in enumerate(_signature(bundles, use_case, version, width)):
            if name in names:
                served[rows, names.index(name)] = values.reshape(len(rows), width)[:, column]
            else:
                extra[name] += len(rows)
    return served, dict(extra)


def _signature(bundles: Path, use_case: str, version: str, width: int) -> tuple[str, ...]:
    """The input names of a version; without its bundle, the current names if there are as many."""
    names: tuple[str, ...] = INPUTS_LOGGED[use_case]
    try:
        manifest = version_folder(bundles, use_case, version) / MANIFEST
        names = msgspec.json.decode(manifest.read_bytes(), type=_Signature).inputs
    except (OSError, BundleRefused, msgspec.MsgspecError):
        pass
    return names if len(names) == width else tuple(f"input {number} of {version}" for number in range(width))


def payment_questions(lake: Path, log: LoggedRows, served: Floats) -> tuple[Questions, Questions, Assemble]:
    """The customer's and the terminal's windows. A payment that did not happen has the requested amount."""
    moments = log.times("event_timestamp")
    columns = ("transaction_id", "customer_id", "event_timestamp", "amount", delta_lake.LATE)
    paid = read_around(lake, TRANSACTIONS, int(moments.min()), int(moments.max()), columns).read_all()
    found, place = _places(log.column("request_id"), paid["transaction_id"])
    amounts = np.where(found, _at(paid["amount"], place), served[:, fraud.INPUTS.index("amount")])
    customers = log.of_lists("entity_keys", np.zeros_like(log.of))
    counted = (
        found
        & (_at(paid["event_timestamp"].cast(pa.int64()), place) == moments)
        & ~_at(paid[delta_lake.LATE], place).astype(bool)
        & (np.array(customers.to_pylist()) == np.array(paid["customer_id"].to_pylist() or [""])[place])
    )
    customer, terminal = (
        _questions(view, log, number, log.times("created_timestamp"))
        for number, view in enumerate(VIEWS_SERVED["fraud"])
    )
    customer = Questions(
        view=customer.view,
        keys=customer.keys,
        moments=customer.moments,
        states=customer.states,
        read_at=customer.read_at,
        own=Own(sums=_own_sums(np.nan_to_num(amounts)), counted=counted),
    )
    requests = np.array(
        [fraud.request_inputs(a, moment_of(t)) for a, t in zip(amounts.tolist(), moments.tolist(), strict=True)]
    )

    def assemble(of_customer: Floats, of_terminal: Floats, rows: Ints) -> Floats:
        return np.column_stack([requests[rows], of_customer, of_terminal])

    return customer, terminal, assemble


def page_questions(lake: Path, log: LoggedRows, _served: Floats) -> tuple[Questions, Questions, Assemble]:
    """The viewer's and the video's windows; a video unknown to the lake has no values."""
    known = delta_lake.read(lake, VIDEOS).read_all()
    found, place = _places(log.of_lists("items", log.place), known["video_id"])
    categories = _at(pc.index_in(known["category"], pa.array(CATEGORIES)), place)
    published = _at(known["event_timestamp"].cast(pa.int64()), place)
    durations = np.where(found, _at(known["duration_seconds"], place), np.nan)
    moments = log.times("event_timestamp")
    one, other = VIEWS_SERVED["recommendation"]
    viewer = _questions(one, log, 0, log.times("created_timestamp"))
    video = _questions(other, log, log.place + 1, log.times("catalogue_timestamp"))

    def assemble(of_viewer: Floats, of_video: Floats, rows: Ints) -> Floats:
        return recommendation.ranker_inputs(
            viewer=of_viewer,
            videos=of_video,
            categories=categories[rows].astype(np.int64),
            published=published[rows].astype(np.int64),
            durations=durations[rows],
            as_of=moments[rows],
            positions=np.full(len(rows), recommendation.SERVING_POSITION),
        )

    return viewer, video, assemble


def _questions(view: WindowedView, log: LoggedRows, place: Ints | int, read_at: Micros) -> Questions:
    places = np.broadcast_to(place, log.of.shape)
    return Questions(
        view=view,
        keys=log.of_lists("entity_keys", places),
        moments=log.times("event_timestamp"),
        states=pc.fill_null(log.of_lists("state_micros", places), NO_STATE).to_numpy(zero_copy_only=False),
        read_at=read_at,
    )


def _own_sums(amounts: Floats) -> Floats:
    """The sums that each payment adds for its customer: its own row, in windows that end with it."""
    row = {name: np.full(len(amounts), value) for name, value in fraud.own_row(0.0).items()} | {"amount": amounts}
    terms = terms_of(fraud.CUSTOMER_ACTIVITY)
    return np.column_stack([row[name] if not delay else np.zeros(len(amounts)) for _, delay, name in terms])


def read_around(lake: Path, topic: Topic, first: int, last: int, columns: tuple[str, ...]) -> pa.RecordBatchReader:
    """The lake's rows of a time range (microseconds), extended by `_SLACK` on both sides."""
    start, end = moment_of(first) - _SLACK, moment_of(last) + _SLACK
    return delta_lake.read(lake, topic, start=start, end=end, columns=columns)


def _places(wanted: pa.Array, ids: pa.ChunkedArray) -> tuple[NDArray[np.bool_], Ints]:
    """Whether each id was found, and its index (0 where it was not)."""
    found = pc.index_in(wanted, ids.combine_chunks())
    return found.is_valid().to_numpy(zero_copy_only=False), found.fill_null(0).to_numpy(zero_copy_only=False)


def _at(column: pa.ChunkedArray, places: Ints) -> NDArray[Any]:
    """The values at these indices; for an empty column zeros, which are not used."""
    values: NDArray[Any] = column.to_numpy()
    return values[places] if len(values) else np.zeros(len(places))
