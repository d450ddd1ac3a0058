"""Parity: served features compared with features from history.

In: for each logged row the served values, the values from history, and bounds on the values of a state as old as the
one that was read. Out: a class (`Match`) for each value, and the report.
Invariant: only events that the state could not have held explain a difference.

- match: equal within `RELATIVE_TOLERANCE`, relative to numbers above 1.
- lag: different, but equal to the value from the events that the state knew.
- error: different and unexplained.
- missing: no value was served (a rule answered, or the model does not have this input).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Flags, Floats

RELATIVE_TOLERANCE = 1e-6
_WORST = 3  # examples per feature

Matches = NDArray[np.int8]


class Match(IntEnum):
    """The class of one value."""

    MATCH = 0
    LAG = 1
    ERROR = 2
    MISSING = 3


class FeatureParity(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: the number of rows of each class; `extra` counts values of undeclared features."""

    feature: str
    match: int = 0
    mismatch: int = 0
    explained_by_lag: int = 0
    errors: int = 0
    missing: int = 0
    extra: int = 0


class FeatureDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs: its row, the served value and the value from history.

    `known_low` and `known_high` bound the value from the events that the state could have held; null where no state
    is involved, and for entities unknown to the lake.
    """

    feature: str
    prediction_id: str
    entity_keys: list[str]
    event_timestamp: datetime
    served: float
    recomputed: float | None
    known_low: float | None
    known_high: float | None
    explained_by_lag: bool


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `workbook features parity --json`.

    `rows` counts feature vectors: one for each payment, one for each video of a page. `settling` counts predictions
    left out because earlier events may still be in transit to the lake. `all_features.errors` is the number of
    unexplained values; the command fails unless it is 0.
    """

    use_case: str
    first: datetime | None
    last: datetime | None
    predictions: int
    degraded: int
    rows: int
    settling: int
    predictions_without_event: int
    events_without_prediction: int
    tolerance: float
    all_features: FeatureParity
    features: list[FeatureParity]
    differences: list[FeatureDifference]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRows:
    """The rows of a comparison; all but `names`, `extra` and `keys` have shape (n, len(names)).

    `served` is NaN where nothing was served; `low` and `high` are NaN where lag cannot explain a difference. `keys`
    and `predictions`, of length n, identify the rows; `extra` counts values by names that are not in `names`.
    """

    names: Sequence[str]
    served: Floats
    recomputed: Floats
    low: Floats
    high: Floats
    predictions: Sequence[str]
    keys: Sequence[Sequence[str]]
    moments: Sequence[datetime]
    extra: dict[str, int]


def differs(served: Floats, recomputed: Floats) -> Flags:
    """Where two values differ; a missing value differs from every other."""
    return ~(np.abs(served - recomputed) <= _slack(recomputed))


def match(rows: ComparedRows) -> Matches:
    """A `Match` for each value."""
    inside = (rows.served >= rows.low - _slack(rows.low)) & (rows.served <= rows.high + _slack(rows.high))
    return np.select(
        [np.isnan(rows.served), ~differs(rows.served, rows.recomputed), inside],
        [Match.MISSING, Match.MATCH, Match.LAG],
        Match.ERROR,
    ).astype(np.int8)


def by_feature(rows: ComparedRows, verdicts: Matches) -> list[FeatureParity]:
    """The counts of each declared feature in the order of the declaration, then of undeclared features."""
    counts = {verdict: (verdicts == verdict).sum(axis=0) for verdict in Match}
    declared = [
        FeatureParity(
            feature=name,
            match=int(counts[Match.MATCH][column]),
            mismatch=int(counts[Match.LAG][column] + counts[Match.ERROR][column]),
            explained_by_lag=int(counts[Match.LAG][column]),
            errors=int(counts[Match.ERROR][column]),
            missing=int(counts[Match.MISSING][column]),
        )
        for column, name in enumerate(rows.names)
    ]
    return [*declared, *(FeatureParity(feature=name, extra=count) for name, count in sorted(rows.extra.items()))]


def worst(rows: ComparedRows, verdicts: Matches) -> list[FeatureDifference]:
    """The largest differences of each feature; unexplained ones come first."""
    with np.errstate(invalid="ignore"):
        sizes = np.abs(rows.served - rows.recomputed) / np.maximum(1.0, np.abs(rows.recomputed))
    # A value missing in history (a video unknown to the lake) sorts before every number.
    sizes = np.nan_to_num(sizes, nan=np.inf)
    found = []
    for verdict in (Match.ERROR, Match.LAG):
        for column in range(len(rows.names)):
            places = np.flatnonzero(verdicts[:, column] == verdict)
            chosen = places[np.argsort(-sizes[places, column], kind="stable")[:_WORST]]
            found += [_difference(rows, int(row), column, explained=verdict == Match.LAG) for row in chosen]
    return found


def all_features(features: Sequence[FeatureParity]) -> FeatureParity:
    """The sum over all features."""
    names = [name for name in FeatureParity.__struct_fields__ if name != "feature"]
    return FeatureParity(
        feature="all features", **{name: sum(getattr(each, name) for each in features) for name in names}
    )


def _difference(rows: ComparedRows, row: int, column: int, *, explained: bool) -> FeatureDifference:
    return FeatureDifference(
        feature=rows.names[column],
        prediction_id=rows.predictions[row],
        entity_keys=list(rows.keys[row]),
        event_timestamp=rows.moments[row],
        served=float(rows.served[row, column]),
        recomputed=_number(rows.recomputed[row, column]),
        known_low=_number(rows.low[row, column]),
        known_high=_number(rows.high[row, column]),
        explained_by_lag=explained,
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _slack(values: Floats) -> Floats:
    slack: Floats = RELATIVE_TOLERANCE * np.maximum(1.0, np.abs(values))
    return slack
