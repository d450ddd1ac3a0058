"""The promotion gate: may this challenger replace the champion?

In: what challenger, champion and baselines are worth on the same rows, as functions of the groups' weights; what the
other checks found (`registry/gate/checks.py`).
Out: promote, hold or refuse, with reasons and intervals.
Invariant: no challenger is promoted that surely does not beat a baseline, that differs from the champion by no more
than chance explains, or that fails a check. A first model may have doubts, because without a model nothing answers.
Only a champion that has grown old gives way to one that is as good (docs/adr/0026).

The interval is a paired bootstrap over groups (cards, viewers): rows of one group stand and fall together, and both
models meet the same draw, so what is hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import msgspec
import numpy as np

from reference_system.arrays import Floats

GateAnswer = Literal["promote", "hold", "refuse"]
SEVERITY: tuple[GateAnswer, ...] = ("promote", "hold", "refuse")
# The primary metric when the groups count with these weights, shape (groups,).
WeightedMetric = Callable[[Floats], float]
# A share of the champion's value: who is surely worse by more is refused, and by no more may somebody be worse who
# replaces a champion that has grown old.
WORSE_BY = 0.05
# A champion is old once its training ends so much earlier than the challenger's: the longest training window, so that
# it has learned from none of the days that a challenger learns from.
OLD_AFTER = timedelta(days=28)
_DRAWS = 400
_LOW, _HIGH = 0.05, 0.95


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A difference of two metrics with its 90 % bootstrap interval."""

    low: float
    difference: float
    high: float

    def __str__(self) -> str:
        """The way reasons name it."""
        return f"{self.difference:+.4f} (90 % interval {self.low:+.4f} to {self.high:+.4f})"


class GateCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the challenger found; `figures` are the numbers that decided."""

    name: str
    answer: GateAnswer
    reason: str
    figures: dict[str, float] = {}


class GateDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says; `against` holds an interval for each opponent, `checks` everything else that was looked at.

    The first reason is the one that decided.
    """

    answer: GateAnswer
    reasons: tuple[str, ...]
    metric: str
    challenger: float
    champion: float | None
    against: dict[str, Interval]
    checks: tuple[GateCheck, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contenders:
    """Who is compared, on which metric, over how many groups; `champion` is `None` before the first promotion.

    `tolerance` is a share of the champion's value (see `WORSE_BY`); `newer` says how much later the challenger's
    training ends than the champion's, where that may count for it.
    """

    metric: str
    groups: int
    challenger: WeightedMetric
    champion: WeightedMetric | None
    baselines: Mapping[str, WeightedMetric]
    tolerance: float = WORSE_BY
    newer: timedelta = timedelta(0)


def decide_gate(contenders: Contenders, metrics: Mapping[str, float], *, seed: int) -> GateDecision:
    """The gate's answer.

    Args:
        contenders: who is compared.
        metrics: everything that was measured of the challenger.
        seed: of the bootstrap.
    """
    everyone = np.ones(contenders.groups)
    value = contenders.challenger(everyone)
    opponents = dict(contenders.baselines)
    champion = None
    if contenders.champion is not None:
        opponents["champion"] = contenders.champion
        champion = contenders.champion(everyone)
    answer: GateAnswer
    against: dict[str, Interval] = {}
    measured = {**metrics, contenders.metric: value}
    broken = sorted(name for name, number in measured.items() if not np.isfinite(number))
    if broken:
        answer, reasons = "refuse", [f"{', '.join(broken)} is not a finite number"]
    else:
        against = intervals(contenders.challenger, opponents, contenders.groups, seed)
        answer, reasons = _answer(contenders, against, champion)
    return GateDecision(
        answer=answer,
        reasons=tuple(reasons),
        metric=contenders.metric,
        challenger=value,
        champion=champion,
        against=against,
    )


def conclude_gate(verdict: GateDecision, checks: Sequence[GateCheck]) -> GateDecision:
    """The verdict with its checks: the worst answer wins; of a first model's checks only what must be refused counts.

    Args:
        verdict: what `decide_gate` said.
        checks: what else was found.
    """
    weighed = [(verdict.answer, reason) for reason in verdict.reasons]
    weighed += [(check.answer, f"{check.name}: {check.reason}") for check in checks if check.answer != "promote"]
    weighed.sort(key=lambda one: -SEVERITY.index(one[0]))
    worst = weighed[0][0]
    if verdict.champion is None and worst == "hold":
        worst = verdict.answer
    return msgspec.structs.replace(
        verdict, answer=worst, reasons=tuple(reason for _, reason in weighed), checks=tuple(checks)
    )


def _answer(
    contenders: Contenders, against: Mapping[str, Interval], champion: float | None
) -> tuple[GateAnswer, list[str]]:
    reasons = [f"{contenders.metric} against {name}: {interval}" for name, interval in against.items()]
    baselines = {name: interval for name, interval in against.items() if name != "champion"}
    lost = [name for name, interval in baselines.items() if interval.high <= 0.0]
    if lost:
        return "refuse", [f"does not beat {', '.join(lost)}", *reasons]
    unclear = [name for name, interval in baselines.items() if interval.difference <= 0.0]
    if champion is None:
        # In a tiny world nothing is certain, and without a model nothing answers.
        doubt = f"the first model; it may not beat {', '.join(unclear)}"
        return "promote", [doubt if unclear else "the first model beats every baseline", *reasons]
    if unclear:
        return "hold", [f"may not beat {', '.join(unclear)}", *reasons]
    answer, reason = against_champion(against["champion"], contenders.tolerance * champion, newer=contenders.newer)
    return answer, [reason, *reasons]


def against_champion(interval: Interval, allowed: float, *, newer: timedelta) -> tuple[GateAnswer, str]:
    """What a difference to the champion means.

    Args:
        interval: challenger minus champion.
        allowed: who is surely worse by more is refused; by no more may one be worse who replaces an old champion.
        newer: how much later the challenger's training ends.
    """
    if interval.low == interval.high == 0.0:
        return "hold", "no better than the champion: it answers exactly as the champion does"
    if interval.low > 0.0:
        return "promote", f"better than the champion by {interval}"
    if interval.high < -allowed:
        bound = f" by more than {allowed:.4f}" if allowed else ""
        return "refuse", f"worse than the champion{bound}: {interval}"
    if newer >= OLD_AFTER and interval.high > 0.0 and interval.difference >= -allowed:
        return "promote", (
            f"the champion has grown old: its training ends {newer.days} days earlier; not worse by more than chance"
            f" explains and {allowed:.4f}: {interval}"
        )
    if interval.high < 0.0:
        return "hold", f"a little worse than the champion: {interval}"
    return "hold", f"no better than the champion: the difference, {interval}, may be chance"


def intervals(
    challenger: WeightedMetric, opponents: Mapping[str, WeightedMetric], groups: int, seed: int, *, draws: int = _DRAWS
) -> dict[str, Interval]:
    """How much better than each opponent the challenger is, by a paired bootstrap over the groups."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=draws).astype(np.float64)
    ours = np.array([challenger(weights) for weights in drawn])
    everyone = np.ones(groups)
    found = {}
    for name, worth in opponents.items():
        differences = ours - np.array([worth(weights) for weights in drawn])
        # A draw without any positive row says nothing.
        low, high = np.nanquantile(differences, (_LOW, _HIGH))
        middle = challenger(everyone) - worth(everyone)
        found[name] = Interval(low=float(low), difference=float(middle), high=float(high))
    return found
