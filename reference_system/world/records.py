"""Converts event columns to records for Kafka and to Arrow columns for the lake.

In: events as columns. Out: each topic's fields, as single records (live) or as Arrow columns (history).
Invariant: both forms use `record_fields`, so they have the same values; an id is built from timestamps that no two
events share, so history, live traffic and a repeated slice agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.arrays import Micros
from reference_system.event_time import moment_of
from reference_system.events import Event, Topic
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS, TRANSACTIONS
from reference_system.use_cases.recommendation.events import CATEGORIES, IMPRESSIONS, VIDEOS, WATCHES
from reference_system.world.columns import (
    NO_VIDEO,
    Chargebacks,
    IdColumn,
    Pages,
    PaymentColumns,
    Publications,
    TextColumn,
    Watches,
)
from reference_system.world.recommendation.catalogue import WorldCatalogue
from reference_system.world.simulation import Happened

# A watch's id is its impression's between `w-` and the position, and ids have at most 64 characters.
LONGEST_IMPRESSION_ID = 59
_SCHEMA_VERSION = 1
_CATEGORY_NAMES = np.array(CATEGORIES)
_MOMENTS = ("event_timestamp", "created_timestamp")


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column of lists: list i is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[Any]
    offsets: NDArray[np.int32]


Fields = Mapping[str, NDArray[Any] | ListColumn]


def numbered_ids(letter: str, indices: IdColumn) -> TextColumn:
    """The ids of entities: `c000001` is the customer with index 0."""
    if not len(indices):
        return np.empty(0, np.str_)  # zfill fails on an empty array
    return np.strings.add(letter, np.strings.zfill((indices + 1).astype(np.str_), 6))


def index_of(entity_id: str) -> int:
    """The index of an entity by its id; -1 for an id that is not of this world."""
    digits = entity_id[1:]
    return int(digits) - 1 if digits.isdecimal() else -1


def transaction_ids(times: Micros) -> TextColumn:
    """The ids of payments, built from their timestamps, so that they sort by time."""
    return np.strings.add("p", times.astype(np.str_))


def record_fields(happened: Happened, catalogue: WorldCatalogue) -> dict[Topic, Fields]:
    """For each topic the fields of its records; times in microseconds."""
    return {
        TRANSACTIONS: _transactions(happened.payments),
        CHARGEBACKS: _chargebacks(happened.chargebacks),
        REVERSALS: _chargebacks(happened.reversals),
        VIDEOS: _videos(happened.publications, catalogue),
        IMPRESSIONS: _impressions(happened.pages),
        WATCHES: _watches(happened.watches, catalogue),
    }


def arrow_columns(fields: Fields) -> dict[str, pa.Array]:
    """The fields as Arrow arrays, without an object per event."""
    arrays = {
        name: pa.ListArray.from_arrays(column.offsets, pa.array(column.values))
        if isinstance(column, ListColumn)
        else pa.array(column)
        for name, column in fields.items()
    }
    count = len(arrays["event_timestamp"])
    return {"schema_version": pa.array(np.full(count, _SCHEMA_VERSION)), **arrays}


def records_of(topic: Topic, fields: Fields) -> list[Event]:
    """The fields as records."""
    plain: dict[str, list[Any]] = {}
    for name, column in fields.items():
        if isinstance(column, ListColumn):
            values = column.values.tolist()
            plain[name] = [values[first:last] for first, last in pairwise(column.offsets.tolist())]
        else:
            plain[name] = column.tolist()
        if name in _MOMENTS:
            plain[name] = [moment_of(time) for time in plain[name]]
    plain["schema_version"] = [_SCHEMA_VERSION] * len(plain["event_timestamp"])
    return [topic.record(**dict(zip(plain, row, strict=True))) for row in zip(*plain.values(), strict=True)]


def _transactions(payments: PaymentColumns) -> Fields:
    return {
        "event_timestamp": payments.times,
        "transaction_id": transaction_ids(payments.times),
        "customer_id": numbered_ids("c", payments.customers),
        "terminal_id": numbered_ids("t", payments.terminals),
        "amount": payments.amounts,
    }


def _chargebacks(chargebacks: Chargebacks) -> Fields:
    """The fields of chargebacks, and of reversals, which name a chargeback."""
    transactions = transaction_ids(chargebacks.paid)
    first = np.strings.add("cb-", transactions)
    return {
        "event_timestamp": chargebacks.paid,
        "created_timestamp": chargebacks.times,
        "chargeback_id": np.where(chargebacks.reports == 0, first, np.strings.add(first, "-2")),
        "transaction_id": transactions,
        "customer_id": numbered_ids("c", chargebacks.customers),
        "terminal_id": numbered_ids("t", chargebacks.terminals),
    }


def _videos(publications: Publications, catalogue: WorldCatalogue) -> Fields:
    return {
        "event_timestamp": publications.times,
        "video_id": numbered_ids("m", publications.videos),
        "category": _CATEGORY_NAMES[catalogue.categories[publications.videos]],
        "duration_seconds": catalogue.durations[publications.videos],
    }


def _impressions(pages: Pages) -> Fields:
    shown = pages.videos != NO_VIDEO
    offsets = np.concatenate([[0], np.cumsum(shown.sum(axis=1))]).astype(np.int32)
    return {
        "event_timestamp": pages.times,
        "impression_id": pages.impressions,
        "session_id": np.strings.add("s", pages.sessions.astype(np.str_)),
        "viewer_id": numbered_ids("v", pages.viewers),
        "video_ids": ListColumn(numbered_ids("m", pages.videos[shown]), offsets),
        "propensities": ListColumn(pages.propensities[shown], offsets),
        "policy": pages.policies,
    }


def _watches(watches: Watches, catalogue: WorldCatalogue) -> Fields:
    positions = watches.positions.astype(np.str_)
    return {
        "event_timestamp": watches.times,
        "watch_id": np.strings.add(np.strings.add("w-", watches.impressions), np.strings.add("-", positions)),
        "impression_id": watches.impressions,
        "viewer_id": numbered_ids("v", watches.viewers),
        "video_id": numbered_ids("m", watches.videos),
        "category": _CATEGORY_NAMES[catalogue.categories[watches.videos]],
        "position": watches.positions,
        "watch_seconds": watches.seconds,
        "completion": watches.completions,
    }
