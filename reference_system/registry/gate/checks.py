"""The gate's other checks: what a good average does not say of a model.

In: numbers that were measured of challenger and champion. Out: a `GateCheck` each, with its answer and its reason.
Invariant: every check says what it looked at, also where there was nothing to look at; none of them guesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.registry.bundles.bundle import BundleManifest
from reference_system.registry.gate.decision import (
    WORSE_BY,
    GateAnswer,
    GateCheck,
    Interval,
    WeightedMetric,
    intervals,
)
from reference_system.use_case import UseCase
from reference_system.use_cases import DECLARATIONS

# A figure between the ends of its interval: low, value, high.
Bounds = tuple[float, float, float]
# Fewer positives than this say nothing about a slice.
MIN_SLICE_POSITIVES = 25
# A share of the champion's value by which no slice may surely be worse.
SLICE_TOLERANCE = 0.25
_SLICE_DRAWS = 100
MODEL_BYTES = 32 * 1024 * 1024
# One input that orders the outcomes like this knows them.
LEAK_AUC = 0.99
# Served rows that say something about an input.
MIN_SERVED_ROWS = 200
# A state that lags some seconds misses a card's payment of just before, in a few rows of a hundred (more at a higher
# speed of the world), and moves their scores a little. Beyond that history and serving do not compute the same: scores
# by more than this in log-odds, in so many rows; or one input in every second row.
SKEWED_LOG_ODDS = 1.0
SKEWED_HOLD, SKEWED_REFUSE = 0.1, 0.25
SKEWED_INPUT = 0.5
_LEAST_CHANCE = 1e-4
# How much older than the split says the newest training row may be, and how much of a rolled-back model's window may
# come again.
STALE_AFTER = timedelta(days=7)
SAME_WINDOW = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePair:
    """A slice as challenger and champion do there."""

    challenger: WeightedMetric
    champion: WeightedMetric
    positives: int


def mature_check(challenger: WeightedMetric, champion: WeightedMetric, groups: int, *, seed: int) -> GateCheck:
    """Whether a model that learned what is new still knows what was known, on mature labels."""
    everyone = np.ones(groups)
    if not np.isfinite(champion(everyone)):
        return GateCheck(name="mature window", answer="hold", reason="no frauds among the held-out cards")
    interval = intervals(challenger, {"champion": champion}, groups, seed)["champion"]
    allowed = WORSE_BY * champion(everyone)
    figures = {"difference": interval.difference, "low": interval.low, "high": interval.high}
    if interval.high < -allowed:
        reason = f"surely worse than the champion where every label is known: {interval}"
        return GateCheck(name="mature window", answer="refuse", reason=reason, figures=figures)
    reason = f"not surely worse where every label is known: {interval}"
    return GateCheck(name="mature window", answer="promote", reason=reason, figures=figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWorth:
    """Watches a page, each as (low, value, high) of a 95 % interval.

    `challenger`, `champion` and their `difference` are estimated from `pages` that were drawn by chance, which brought
    `by_chance`; `served` is what pages brought that the champion served. `None` where there is no champion, or where
    it served none.
    """

    pages: int
    challenger: Bounds
    by_chance: Bounds
    champion: Bounds | None = None
    difference: Bounds | None = None
    served: Bounds | None = None


def page_worth_check(found: PageWorth | None, why_not: str = "") -> GateCheck:
    """Whether the challenger's pages surely bring less than the champion's, or than pages drawn by chance."""
    name = "worth of a page"
    if found is None:
        return GateCheck(name=name, answer="promote", reason=f"nothing can be said of it: {why_not}")
    said = [f"its pages {_bounds(found.challenger)} watches each"]
    said += [f"the champion's {_bounds(found.champion)}"] if found.champion else []
    said += [f"difference {_bounds(found.difference, '+')}"] if found.difference else []
    reason = f"by {found.pages} pages drawn by chance: {', '.join(said)}; those brought {_bounds(found.by_chance)}"
    reason += f", pages that the champion served {_bounds(found.served)}" if found.served else ""
    figures = {
        f"{what}, {bound}": number
        for what in ("challenger", "champion", "difference", "by_chance", "served")
        for bound, number in zip(("low", "value", "high"), getattr(found, what) or (), strict=False)
    }
    answer: GateAnswer = "promote"
    if found.challenger[2] < found.by_chance[0]:
        answer, reason = "refuse", f"surely worth less than pages drawn by chance: {reason}"
    elif found.champion and found.difference and found.difference[2] < -WORSE_BY * found.champion[1]:
        answer, reason = "refuse", f"surely worth less than the champion's pages: {reason}"
    return GateCheck(name=name, answer=answer, reason=reason, figures=figures)


def _bounds(found: Bounds, sign: str = "") -> str:
    low, value, high = found
    return f"{value:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def slice_check(slices: Mapping[str, SlicePair], groups: int, *, seed: int) -> GateCheck:
    """Whether any part of the rows is surely much worse off."""
    looked: dict[str, Interval] = {}
    worse = []
    for name, pair in slices.items():
        if pair.positives < MIN_SLICE_POSITIVES:
            continue
        opponent = {"champion": pair.champion}
        interval = intervals(pair.challenger, opponent, groups, seed, draws=_SLICE_DRAWS)["champion"]
        looked[name] = interval
        if interval.high < -SLICE_TOLERANCE * pair.champion(np.ones(groups)):
            worse.append(name)
    figures = {name: interval.difference for name, interval in looked.items()}
    if worse:
        said = "; ".join(f"{name} {looked[name]}" for name in worse)
        return GateCheck(name="slices", answer="refuse", reason=f"surely much worse in {said}", figures=figures)
    reason = f"none of {len(looked)} slices with {MIN_SLICE_POSITIVES} positives is surely much worse"
    return GateCheck(name="slices", answer="promote", reason=reason, figures=figures)


def calibration_check(use_case: UseCase, error: float, champion: float | None) -> GateCheck:
    """Whether the score is a probability, or as much of one as the champion's."""
    allowed = max(DECLARATIONS[use_case].gate.calibration_bound, 0.0 if champion is None else 1.5 * champion)
    figures = {"expected_calibration_error": error, "allowed": allowed}
    if error > allowed:
        reason = f"the scores are {error:.4f} away from the shares of positives, {allowed:.4f} at most"
        return GateCheck(name="calibration", answer="refuse", reason=reason, figures=figures)
    return GateCheck(name="calibration", answer="promote", reason=f"expected error {error:.4f}", figures=figures)


def cost_checks(use_case: UseCase, *, micros: float, model_bytes: int) -> list[GateCheck]:
    """Whether a request can wait for the model, and memory hold it."""
    budget = DECLARATIONS[use_case].gate.latency_budget_micros
    figures = {"p99_us": micros, "budget_us": budget}
    latency = GateCheck(
        name="latency",
        answer="refuse" if micros > budget else "promote",
        reason=f"a request's rows take {micros:.0f} µs (p99), the budget is {budget:.0f} µs",
        figures=figures,
    )
    size = GateCheck(
        name="size",
        answer="refuse" if model_bytes > MODEL_BYTES else "promote",
        reason=f"the model has {model_bytes / 1e6:.1f} MB, {MODEL_BYTES / 1e6:.0f} MB at most",
        figures={"model_bytes": float(model_bytes)},
    )
    return [latency, size]


def learned_check(names: Sequence[str], learned: NDArray[np.float32], judged: NDArray[np.float32]) -> GateCheck:
    """Whether every input that varies where the model is judged varied where it learned."""
    constant = [name for name, one, other in zip(names, learned.T, judged.T, strict=True) if _dead(one, other)]
    if constant:
        said = f"learned from rows in which {', '.join(constant)} never changed, which it does now"
        return GateCheck(name="features", answer="refuse", reason=said)
    return GateCheck(name="features", answer="promote", reason=f"{len(names)} inputs varied in training")


def leak_check(names: Sequence[str], auc: Floats) -> GateCheck:
    """Whether any single input tells the outcome: then it knows what it cannot know when it is served."""
    best = int(np.argmax(auc))
    figures = {"largest_auc_of_one_input": float(auc[best])}
    if auc[best] > LEAK_AUC:
        reason = f"{names[best]} alone orders the outcomes with a ROC AUC of {auc[best]:.4f}: it knows them"
        return GateCheck(name="leak", answer="refuse", reason=reason, figures=figures)
    reason = f"no single input orders the outcomes better than {names[best]} ({auc[best]:.3f})"
    return GateCheck(name="leak", answer="promote", reason=reason, figures=figures)


def served_check(names: Sequence[str], history: NDArray[np.float32], served: NDArray[np.float32]) -> GateCheck:
    """Whether the inputs are there when the model is asked: as served and from history, row by row."""
    if len(served) < MIN_SERVED_ROWS:
        reason = f"only {len(served)} rows were served, {MIN_SERVED_ROWS} are needed to look"
        return GateCheck(name="availability", answer="promote", reason=reason)
    dead = [name for name, one, other in zip(names, served.T, history.T, strict=True) if _dead(one, other)]
    figures = {"rows": float(len(served))}
    if dead:
        reason = f"{', '.join(dead)} never changed in {len(served)} served rows, and should have"
        return GateCheck(name="availability", answer="refuse", reason=reason, figures=figures)
    return GateCheck(
        name="availability",
        answer="promote",
        reason=f"every input lived in {len(served)} served rows",
        figures=figures,
    )


def parity_check(
    names: Sequence[str], rows: tuple[NDArray[np.float32], NDArray[np.float32]], scores: Floats, *, what: str
) -> GateCheck:
    """Whether the model answers the same from history as from what was served.

    Args:
        names: of the inputs.
        rows: from history and as served, shape (n, width) each.
        scores: of both, shape (2, n).
        what: which rows they are, in a word.
    """
    name, (history, served) = f"parity of {what} rows", rows
    if len(served) < MIN_SERVED_ROWS:
        reason = f"only {len(served)} of them were served, {MIN_SERVED_ROWS} are needed to compare"
        return GateCheck(name=name, answer="promote", reason=reason)
    chances = np.clip(scores, _LEAST_CHANCE, 1.0 - _LEAST_CHANCE)
    log_odds = np.log(chances / (1.0 - chances))
    share = float(np.mean(np.abs(log_odds[0] - log_odds[1]) > SKEWED_LOG_ODDS))
    differ = np.mean(~np.isclose(history, served, rtol=1e-3, atol=1e-3), axis=0)
    worst = int(np.argmax(differ))
    figures = {"rows": float(len(served)), "skewed_scores": share, "skewed_input": float(differ[worst])}
    reason = (
        f"of {len(served)} that were served {share:.1%} score differently from history by more than"
        f" {SKEWED_LOG_ODDS} in log-odds; {names[worst]} differs in {differ[worst]:.1%}"
    )
    answer: GateAnswer = "promote"
    if share > SKEWED_REFUSE or differ[worst] > SKEWED_INPUT:
        answer = "refuse"
    elif share > SKEWED_HOLD:
        answer = "hold"
    return GateCheck(name=name, answer=answer, reason=reason, figures=figures)


def staleness_check(
    manifest: BundleManifest, champion: BundleManifest | None, *, newest_row: datetime, gap: timedelta
) -> GateCheck:
    """Whether the model learned from what is new.

    Args:
        manifest: the challenger's.
        champion: the champion's.
        newest_row: when the newest training row happened.
        gap: how much older than the moment of training the split lets it be.
    """
    age = manifest.created_timestamp - newest_row
    figures = {"age_days": age / timedelta(days=1)}
    if age > gap + STALE_AFTER:
        reason = f"its newest row is {age.days} days old, {(gap + STALE_AFTER).days} at most"
        return GateCheck(name="staleness", answer="refuse", reason=reason, figures=figures)
    if champion is not None and manifest.data_digest and manifest.data_digest == champion.data_digest:
        reason = f"it learned from the same rows as the champion, version {champion.model_version}"
        return GateCheck(name="staleness", answer="hold", reason=reason, figures=figures)
    if champion is not None and manifest.data_window.end < champion.data_window.end:
        reason = f"its training ends before the champion's, {manifest.data_window.end:%Y-%m-%d %H:%M}"
        return GateCheck(name="staleness", answer="hold", reason=reason, figures=figures)
    return GateCheck(
        name="staleness", answer="promote", reason=f"its newest row is {age.days} days old", figures=figures
    )


def again_check(manifest: BundleManifest, rolled_back: Sequence[BundleManifest]) -> GateCheck:
    """Whether this is, all but the name, a version that was rolled back."""
    for old in rolled_back:
        if old.files == manifest.files or (manifest.data_digest and old.data_digest == manifest.data_digest):
            reason = f"it is version {old.model_version}, which was rolled back, under another number"
            return GateCheck(name="rolled back before", answer="refuse", reason=reason)
        share = _overlap(manifest, old)
        if share > SAME_WINDOW:
            reason = (
                f"{share:.0%} of what it learned from is what version {old.model_version}, rolled back, learned from"
            )
            return GateCheck(name="rolled back before", answer="hold", reason=reason, figures={"overlap": share})
    return GateCheck(name="rolled back before", answer="promote", reason="no version like it was rolled back")


def _overlap(one: BundleManifest, other: BundleManifest) -> float:
    """The share of the first one's window that the other one's covers; 0 if they were split differently."""
    both = min(one.data_window.end, other.data_window.end) - max(one.data_window.start, other.data_window.start)
    whole = one.data_window.end - one.data_window.start
    alike = one.trigger == other.trigger and whole == other.data_window.end - other.data_window.start
    return max(both / whole, 0.0) if alike and whole else 0.0


def _dead(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether the first is constant while the second is not: at least one row in a hundred differs from its usual."""
    if not len(one) or not len(other) or one.min() != one.max():
        return False
    _, counts = np.unique(other, return_counts=True)
    return bool(counts.max() < 0.99 * len(other))
