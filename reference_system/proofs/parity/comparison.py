"""Parity: what was served beside what history says, feature by feature.

In: for each logged row its values, the values of history, and between which values a state as old as the one that
was read could lead. Out: a verdict for each value, and the report.
Invariant: a difference is never explained by anything but events that the state could not have held.

- match: equal within `RELATIVE_TOLERANCE`, relative to numbers above 1.
- lag: different, and what was served is what the events known to the state give.
- error: different, and nothing explains it.
- missing: no value was served (a rule answered, or a model without this input).
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
_WORST = 3  # examples of each feature

Matches = NDArray[np.int8]


class Match(IntEnum):
    """What became of one value."""

    MATCH = 0
    LAG = 1
    ERROR = 2
    MISSING = 3


class FeatureParity(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: how many rows had each verdict; `extra` counts values that no declaration knows."""

    feature: str
    match: int = 0
    mismatch: int = 0
    explained_by_lag: int = 0
    errors: int = 0
    missing: int = 0
    extra: int = 0


class FeatureDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs: where, what was served and what history says.

    `known_low` and `known_high` bound what the events that the state could have held give; null where no state is
    involved, and for what the lake does not know.
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
    """What `workbook features parity --json` prints.

    `rows` are feature vectors: one for each payment, one for each video of a page. `settling` counts predictions that
    were left out because events of before them may still be on their way to the lake. `all_features.errors` is the
    number of values that nothing explains: 0, or the command fails.
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

    `served` is NaN where nothing was served; `low` and `high` are NaN where no lag can explain anything. `keys` and
    `predictions`, of length n, name the rows; `extra` counts values by names that are not in `names`.
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
    """Where two values are not the same; a value that is missing differs from every other."""
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
    """The counts of each feature in the order of the declaration, then what no declaration knows."""
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
    """The largest differences of each feature; those that nothing explains come first."""
    with np.errstate(invalid="ignore"):
        sizes = np.abs(rows.served - rows.recomputed) / np.maximum(1.0, np.abs(rows.recomputed))
    # History without a value (a video that the lake does not know) differs by more than any number.
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
