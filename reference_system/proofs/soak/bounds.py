"""Checks the figures of a soak test against bounds.

In: samples. Out: one row per figure and bound, with the value measured after the warm-up.
Invariant: every bound can be broken, also by a missing figure.

A rise is the Theil-Sen slope: the median of the slopes between all pairs of samples, which a temporary peak, such as
a training, does not change. It breaks its bound when its whole 95 % confidence interval lies above the bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from scipy.stats import theilslopes  # type: ignore[import-untyped]

from reference_system.arrays import Floats
from reference_system.proofs.soak.sampler import Sample
from reference_system.settings import Settings
from reference_system.stack.disk_use import MONTH
from reference_system.stack.services import services

# Share of the time that is warm-up: caches fill, the first models are trained, the first files are deleted.
WARM_UP = 1 / 3
LEAST_SAMPLES = 8
# Least number of a flow's runs; the others in LEAST_SAMPLES intervals may have been skipped.
LEAST_RUNS = 3
_HOUR = 3_600.0
Measure = Literal["rise", "level", "high", "fewest", "new", "rate", "month"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A bound for all figures whose names begin with `figure`.

    `measure`: rise per hour (`rise`), median (`level`), 90th percentile (`high`), minimum (`fewest`), increase after
    the warm-up (`new`), increase per second (`rate`), rise per simulated month (`month`).
    """

    figure: str
    measure: Measure
    bound: float


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one figure and one bound; with too few samples `found` is `None` and the bound is broken."""

    figure: str
    measure: Measure
    found: float | None
    bound: float
    holds: bool
    median: float | None


def rules(settings: Settings, seconds: float) -> list[Rule]:
    """The bounds for a system with these settings that ran `seconds` after the warm-up."""
    hours = {
        "etl": settings.etl_every_hours,
        "monitor": settings.monitor_every_hours,
        "train-fraud": settings.train_every_hours,
        "train-recommendation": settings.train_every_hours,
        "score-batch-fraud": settings.batch_every_hours,
        "score-batch-recommendation": settings.batch_every_hours,
    }
    intervals = {name: every * _HOUR / settings.speed for name, every in hours.items()}
    return [
        Rule(figure="services", measure="fewest", bound=len(services(settings))),
        # Two hours are too short to distinguish a smaller leak from caches that still fill.
        Rule(figure="memory of ", measure="rise", bound=20.0),
        # The number of files written or replaced in the last ten minutes varies with each compaction.
        Rule(figure="small files", measure="rise", bound=200.0),
        Rule(figure="disk of all", measure="month", bound=MOST_MB_A_MONTH),
        Rule(figure="monitor behind", measure="level", bound=2 * settings.monitor_every_hours),
        Rule(figure="monitor behind", measure="rise", bound=settings.monitor_every_hours),
        Rule(figure="etl behind", measure="level", bound=1.5 * settings.etl_every_hours),
        Rule(figure="etl behind", measure="rise", bound=settings.etl_every_hours),
        # A run that is one interval late is skipped in favour of the next one.
        *(
            Rule(figure=f"late: {name} ", measure="high", bound=interval)
            for name, interval in intervals.items()
            if seconds >= LEAST_SAMPLES * interval
        ),
        Rule(figure="records waiting", measure="level", bound=1_000.0),
        Rule(figure="records waiting", measure="rise", bound=1_000.0),
        Rule(figure="freshness p99", measure="level", bound=1_000.0),
        Rule(figure="locked databases", measure="new", bound=0.0),
        Rule(figure="tracebacks", measure="new", bound=0.0),
        Rule(figure="cpu of all", measure="rate", bound=MOST_CORES),
    ]


# At the default settings: MB per simulated month until `keep_days` is reached (docs/soak.md), and average cores.
MOST_MB_A_MONTH = 500.0
MOST_CORES = 0.6


def check_bounds(samples: Sequence[Sample], settings: Settings) -> list[Judged]:
    """Check every figure against each of its bounds, in the order of the rules."""
    first = samples[0].seconds + WARM_UP * (samples[-1].seconds - samples[0].seconds)
    after = [sample for sample in samples if sample.seconds >= first]
    seen = Counter(name for sample in after for name in sample.figures)
    judged = []
    for rule in rules(settings, samples[-1].seconds - first):
        least = LEAST_RUNS if rule.figure.startswith("late:") else LEAST_SAMPLES
        names = sorted(name for name, times in seen.items() if name.startswith(rule.figure) and times >= least)
        judged += [_judged(rule, name, after, settings) for name in names] or [_unseen(rule)]
    return judged


def _unseen(rule: Rule) -> Judged:
    return Judged(figure=rule.figure, measure=rule.measure, found=None, bound=rule.bound, holds=False, median=None)


def _judged(rule: Rule, name: str, after: Sequence[Sample], settings: Settings) -> Judged:
    found = [(sample.seconds, sample.figures[name]) for sample in after if name in sample.figures]
    seconds, values = (np.array(column) for column in zip(*found, strict=True))
    if rule.measure == "fewest":
        fewest = float(values.min())
        holds, measured = fewest >= rule.bound, fewest
    else:
        measured, least = _MEASURES[rule.measure](seconds, values)
        if rule.measure == "month":
            hours = MONTH.total_seconds() / settings.speed / _HOUR
            measured, least = measured * hours, least * hours
        holds = least <= rule.bound
    return Judged(
        figure=name,
        measure=rule.measure,
        found=round(measured, 3),
        bound=round(rule.bound, 3),
        holds=holds,
        median=round(float(np.median(values)), 3),
    )


def _rise(seconds: Floats, values: Floats) -> tuple[float, float]:
    """The slope per hour, and the lower end of its confidence interval."""
    slope, _, low, _ = theilslopes(values, seconds / _HOUR)
    return float(slope), float(low)


def _twice(value: float) -> tuple[float, float]:
    return float(value), float(value)


_MEASURES: Mapping[Measure, Callable[[Floats, Floats], tuple[float, float]]] = {
    "rise": _rise,
    "month": _rise,
    "level": lambda _, values: _twice(np.median(values)),
    "high": lambda _, values: _twice(np.quantile(values, 0.9)),
    "new": lambda _, values: _twice(values[-1] - values[0]),
    "rate": lambda seconds, values: _twice((values[-1] - values[0]) / (seconds[-1] - seconds[0])),
}
