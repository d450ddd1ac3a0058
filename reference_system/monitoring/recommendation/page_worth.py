"""What a page is worth: watches and minutes a page, by who chose it, with an interval.

In: pages whose attribution window has passed. Out: for each policy, over all its days and day by day, what its pages
were worth, and what those drawn by chance were worth on the same days.
Invariant: viewers, not pages, are what varies: the pages of one viewer count as one draw. Names and the order of rows
change no bit of any figure.

A version answers on its own days, and days differ; so no figure of one version is set beside one of another. Each is
set beside the pages drawn by chance *of the same days*, weighted so that each day counts as much as it does for the
version: which sessions they were was drawn, so what remains is the version's doing.

The interval is a jackknife: by how much a day's mean moves when one viewer is left out.
Source: B. Efron and C. Stein, The jackknife estimate of variance, Annals of Statistics, 1981.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

from reference_system.arrays import Floats
from reference_system.event_time import MICROS_PER_DAY
from reference_system.use_cases.recommendation.policy import BY_CHANCE

# Fewer viewers than this give no interval that could be believed.
LEAST_VIEWERS = 30
_TAIL = 0.025
_MILLISECONDS_A_MINUTE = 60_000.0


class PerPage(msgspec.Struct, frozen=True, kw_only=True):
    """So much a page, with the interval that holds the truth 95 times of 100."""

    value: float
    low: float
    high: float


class PolicyWorth(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages of one policy were worth on some days (numbered since 1970).

    `watches` are videos of a page of which at least half was seen within a day, `minutes` everything that was seen of
    it. `by_chance` are watches of the pages drawn by chance on the same days, `gain` the difference. `None` where
    fewer than `LEAST_VIEWERS` viewers saw such pages.
    """

    policy: str
    days: tuple[int, ...]
    pages: int
    viewers: int
    watches: PerPage | None
    minutes: PerPage | None
    by_chance: PerPage | None = None
    gain: PerPage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPages:
    """Pages with their outcomes; all shapes (pages,). `viewers` are numbered from 0."""

    days: NDArray[np.int64]
    policies: NDArray[np.str_]
    viewers: NDArray[np.int64]
    watches: NDArray[np.int64]
    milliseconds: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Mean:
    """A mean over pages, by how much each viewer moves it (shape (viewers,)), and how many viewers there are."""

    value: float
    moved: Floats
    viewers: int

    def minus(self, other: _Mean) -> _Mean:
        """The difference; a viewer who saw pages of both moves both."""
        return _Mean(self.value - other.value, self.moved - other.moved, min(self.viewers, other.viewers))

    def estimate(self, unit: float = 1.0) -> PerPage | None:
        """With its interval, in units of so much."""
        if self.viewers < LEAST_VIEWERS:
            return None
        error = sqrt(fsum(self.moved**2)) * float(stdtrit(self.viewers - 1, 1.0 - _TAIL))
        return PerPage(value=self.value / unit, low=(self.value - error) / unit, high=(self.value + error) / unit)


def seen_pages(outcomes: pa.Table) -> SeenPages:
    """The pages of `feedback.duckdb_labels.page_outcomes`, whose rows are the places of one page after another."""
    pages = outcomes["impression_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(pages, prepend=-1))
    watched = np.column_stack([outcomes[name].to_numpy() for name in ("label", "watched_milliseconds")])
    sums = np.add.reduceat(watched.astype(np.int64), starts) if len(starts) else watched.astype(np.int64)
    first = outcomes.take(starts)
    viewers = first["viewer_id"].combine_chunks().dictionary_encode().indices
    return SeenPages(
        days=first["event_timestamp"].cast(pa.int64()).to_numpy() // MICROS_PER_DAY,
        policies=np.array(first["model_version"].to_pylist(), np.str_),
        viewers=viewers.to_numpy().astype(np.int64),
        watches=sums[:, 0],
        milliseconds=sums[:, 1],
    )


def worth_of_policies(seen: SeenPages) -> tuple[PolicyWorth, ...]:
    """One row a policy over all its days, the newest version first, pages drawn by chance last."""
    return tuple(_worth(seen, policy, _days_of(seen, policy)) for policy in _policies(seen))


def worth_by_day(seen: SeenPages) -> tuple[PolicyWorth, ...]:
    """One row a day and policy, in the order of days."""
    return tuple(
        _worth(seen, policy, (day,))
        for day in np.unique(seen.days).tolist()
        for policy in _policies(seen)
        if ((seen.days == day) & (seen.policies == policy)).any()
    )


def _policies(seen: SeenPages) -> list[str]:
    """The versions and chance; what a link from outside filled was nobody's choice."""
    known = np.unique(seen.policies).tolist()
    versions = sorted((name for name in known if name.isdigit()), key=int, reverse=True)
    return [*versions, *(name for name in known if name == BY_CHANCE)]


def _days_of(seen: SeenPages, policy: str) -> tuple[int, ...]:
    """The days of a policy; without those on which no page was drawn by chance, as long as others are left."""
    own = np.unique(seen.days[seen.policies == policy])
    shared = own[np.isin(own, seen.days[seen.policies == BY_CHANCE])]
    return tuple((shared if len(shared) else own).tolist())


def _worth(seen: SeenPages, policy: str, days: tuple[int, ...]) -> PolicyWorth:
    own = seen.policies == policy
    pages = [int((own & (seen.days == day)).sum()) for day in days]
    shares = {day: count / sum(pages) for day, count in zip(days, pages, strict=True)}
    watches = _mean(seen, own, seen.watches, shares)
    chance = None
    if policy != BY_CHANCE and np.isin(days, seen.days[seen.policies == BY_CHANCE]).all():
        chance = _mean(seen, seen.policies == BY_CHANCE, seen.watches, shares)
    return PolicyWorth(
        policy=policy,
        days=days,
        pages=sum(pages),
        viewers=watches.viewers,
        watches=watches.estimate(),
        minutes=_mean(seen, own, seen.milliseconds, shares).estimate(_MILLISECONDS_A_MINUTE),
        by_chance=None if chance is None else chance.estimate(),
        gain=None if chance is None else watches.minus(chance).estimate(),
    )


def _mean(seen: SeenPages, rows: NDArray[np.bool_], values: NDArray[np.int64], shares: dict[int, float]) -> _Mean:
    """The mean over these rows, each day counting as its share says."""
    count = int(seen.viewers.max()) + 1
    value, moved, anybody = 0.0, np.zeros(count), np.zeros(count, np.bool_)
    for day, share in shares.items():
        today = rows & (seen.days == day)
        # Whole numbers: their sums are exact in any order.
        pages = np.bincount(seen.viewers[today], minlength=count)
        sums = np.bincount(seen.viewers[today], values[today], minlength=count)
        total = int(pages.sum())
        mean = float(sums.sum() / total)
        value += share * mean
        # Without the viewer the mean would be so much lower; of the only viewer of a day nothing can be said.
        moved += share * (sums - mean * pages) / np.maximum(total - pages, 1)
        anybody |= pages > 0
    return _Mean(value, moved, int(np.count_nonzero(anybody)))
