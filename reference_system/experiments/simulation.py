"""Simulation: how often each test is wrong when its result is read repeatedly, and how soon it detects an effect.

In: outcomes of viewers, a planted effect, how often the result is read. Out: rates over many experiments.
Invariant: every test gets the same experiments at the same looks; viewers are drawn with replacement and arms by a
coin, so the outcomes keep their heavy tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.experiments import sample_ratio
from reference_system.experiments.sequential import ALPHA, FEWEST, course, first_true
from reference_system.experiments.viewers import Outcomes

Peeks = Literal["daily", "every"]
# Viewers per day in the default world: the distance between daily looks.
VIEWERS_A_DAY = 250
_RUNS_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Viewers to draw from: their outcomes, and the expected surplus, shape (viewers,)."""

    outcomes: Outcomes
    expected: Floats

    @property
    def variance_reduction(self) -> float:
        """The share of the variance that the expectation removes: the possible gain from CUPED."""
        surplus = self.outcomes.values - self.outcomes.metric * self.outcomes.per
        return float(1.0 - np.var(surplus - self.expected) / np.var(surplus))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationPlan:
    """The simulated experiments; `effect` is a share of each treated viewer's outcome."""

    runs: int
    viewers: int
    peeks: Peeks
    effect: float

    @property
    def looks(self) -> NDArray[np.int64]:
        """The indices of the viewers after which the result is read."""
        step = VIEWERS_A_DAY if self.peeks == "daily" else 1
        return np.arange(max(step, FEWEST) - 1, self.viewers, step)


class TestRates(msgspec.Struct, frozen=True, kw_only=True):
    """One test over all runs.

    `said` is the share of runs in which it reported a difference; `missed` the share in which its interval excluded
    the true effect at some look (`None` for a test without an interval); `median_viewers` is the median number of
    viewers at the report, over the runs with one.
    """

    test: str
    said: float
    missed: float | None
    median_viewers: int | None


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of every test at one planted effect; `standard_error` is that of a rate equal to `alpha`."""

    effect: float
    runs: int
    viewers: int
    looks: int
    alpha: float
    standard_error: float
    tests: tuple[TestRates, ...]
    ratio_alarms: tuple[TestRates, ...]  # by the two checks of the sample ratio, with a fair coin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The look at which a test reported a difference in each run (-1: never), and the runs in which it missed."""

    at: NDArray[np.int64]
    missed: NDArray[np.bool_] | None = None


def simulate_experiments(
    pool: Pool, plan: SimulationPlan, rng: np.random.Generator, progress: Callable[[float], None]
) -> Simulated:
    """Run the experiments; `progress` is called with the share that is done."""
    seen: dict[str, list[_Seen]] = {}
    for done, count in _parts(plan.runs):
        progress(done / plan.runs)
        for name, found in _look(pool, plan, count, rng).items():
            seen.setdefault(name, []).append(found)
    rates = {name: _rates(name, parts, plan.looks) for name, parts in seen.items()}
    return Simulated(
        effect=plan.effect,
        runs=plan.runs,
        viewers=plan.viewers,
        looks=len(plan.looks),
        alpha=ALPHA,
        standard_error=float(np.sqrt(ALPHA * (1.0 - ALPHA) / plan.runs)),
        tests=tuple(rates[name] for name in _TESTS),
        ratio_alarms=tuple(rates[name] for name in _RATIO_CHECKS),
    )


_TESTS = (
    "confidence sequence with CUPED",
    "confidence sequence",
    "t-test, believed at every look",
    "t-test, once at the end",
)
_RATIO_CHECKS = ("sample ratio, always valid", "sample ratio, chi-square at every look")


def _parts(runs: int) -> Iterator[tuple[int, int]]:
    """The batches of runs, as (done, next), which limit the memory."""
    for start in range(0, runs, _RUNS_AT_ONCE):
        yield start, min(_RUNS_AT_ONCE, runs - start)


def _look(pool: Pool, plan: SimulationPlan, runs: int, rng: np.random.Generator) -> dict[str, _Seen]:
    """The results of each test in these runs."""
    shape = (runs, plan.viewers)
    drawn = rng.integers(len(pool.expected), size=shape)
    treated = rng.random(shape) < 0.5  # noqa: PLR2004 - a fair coin
    values, per = pool.outcomes.values[drawn] * np.where(treated, 1.0 + plan.effect, 1.0), pool.outcomes.per[drawn]
    truth = plan.effect * pool.outcomes.metric
    raw, adjusted = course(values, per, treated), course(values - pool.expected[drawn], per, treated)
    looks, last = plan.looks, plan.looks[-1:]
    tests = {
        _TESTS[0]: _spoke(adjusted.effect, adjusted.half_width, looks, truth),
        _TESTS[1]: _spoke(raw.effect, raw.half_width, looks, truth),
        _TESTS[2]: _spoke(raw.effect, raw.one_look, looks, truth),
        _TESTS[3]: _at_the_end(_spoke(raw.effect, raw.one_look, last, truth), len(looks) - 1),
    }
    ours = sample_ratio.running_p_values(treated, 0.5)[:, looks]
    chi_square = sample_ratio.chi_square_p(np.cumsum(treated, axis=1, dtype=np.int64)[:, looks], looks + 1, 0.5)
    return tests | {
        name: _Seen(at=first_true(p_values < sample_ratio.BROKEN_BELOW))
        for name, p_values in zip(_RATIO_CHECKS, (ours, chi_square), strict=True)
    }


def _spoke(effect: Floats, half_width: Floats, looks: NDArray[np.int64], truth: float) -> _Seen:
    seen, width = effect[:, looks], half_width[:, looks]
    beside: NDArray[np.bool_] = np.abs(seen - truth) > width
    return _Seen(at=first_true(np.abs(seen) > width), missed=np.logical_or.reduce(beside, axis=1))


def _at_the_end(seen: _Seen, last: int) -> _Seen:
    return _Seen(at=np.where(seen.at < 0, -1, last), missed=seen.missed)


def _rates(name: str, parts: list[_Seen], looks: NDArray[np.int64]) -> TestRates:
    at = np.concatenate([part.at for part in parts])
    said = at >= 0
    missed = [part.missed for part in parts if part.missed is not None]
    return TestRates(
        test=name,
        said=float(said.mean()),
        missed=float(np.concatenate(missed).mean()) if missed else None,
        median_viewers=int(np.median(looks[at[said]] + 1)) if said.any() else None,
    )
