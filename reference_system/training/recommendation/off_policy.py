"""Off-policy evaluation: what another ranker's pages would have brought, from pages that were drawn by chance.

In: for each logged page, what the ranker's page for the same viewer has in common with it. Out: estimates with
intervals, or the reason why there is none.
Invariant: viewers, not pages, are what is drawn again for an interval: pages of one viewer are not independent.

What is estimated: the videos of a page that are watched, if the ranker's videos stand on it in random order, as the
logged ones did. A logged place counts if its video is on the ranker's page, with weight 1/p, where p is the logged
probability of the video to be on the page; above `CLIP` the weight is cut, and the share that was cut is told.

- inverse propensity: the weighted watches a page; unbiased, and as noisy as its weights;
- self-normalised: the same divided by the mean weight, which takes out most of the noise for a little bias;
- doubly robust: what a model of the watches says about the ranker's page, and the weighted errors of that model.

Source: Dudík, Langford and Li, Doubly robust policy evaluation and learning, ICML 2011; Swaminathan and Joachims, The
self-normalized estimator for counterfactual learning, NIPS 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from reference_system.arrays import Floats, Ints
from reference_system.errors import TrainingError

CLIP = 1_000.0
# Fewer matched places than this, counted by their weights, are an anecdote.
LEAST_EFFECTIVE = 30.0
_RESAMPLES = 1_000
_TAIL = 0.025
_DOUBLY_ROBUST = 2  # among the estimates


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedMatches:
    """Logged places whose video is on the ranker's page, and what the ranker's pages promise.

    Of the pages, shape (pages,): `viewers` numbers from 0, `lengths` of the ranker's page, `predicted` watches on it,
    `watched` on the logged page. Of the matched places, shape (places,): `page`, `propensities`, `labels` (1.0 if it
    was watched) and `expected`, what the model of the watches says.
    """

    viewers: Ints
    lengths: Floats
    predicted: Floats
    watched: Floats
    page: Ints
    propensities: Floats
    labels: Floats
    expected: Floats


class OffPolicyEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Watches a page, with the interval that holds the truth 95 times of 100."""

    value: float
    low: float
    high: float


class OffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages say. `naive` is the unweighted mean of the matched places, for comparison: it is biased."""

    inverse_propensity: OffPolicyEstimate
    self_normalised: OffPolicyEstimate
    doubly_robust: OffPolicyEstimate
    naive: OffPolicyEstimate
    logged: OffPolicyEstimate
    pages: int
    viewers: int
    matched: int
    effective: float
    clip: float
    clipped_share: float


class OffPolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which version was evaluated on which window, and what came out."""

    version: str
    start: str
    end: str
    result: OffPolicy


def estimate_off_policy(matches: LoggedMatches, *, seed: int, clip: float = CLIP) -> OffPolicy:
    """Estimate what the ranker's pages would have brought.

    Raises:
        TrainingError: if a propensity is missing or no probability, or too few logged places match.
    """
    sums = _sums(matches, clip)
    weights = np.minimum(1.0 / matches.propensities, clip)
    found, spread = _estimates(sums.sum(axis=0)[None, :])[:, 0], _estimates(_drawn(len(sums), seed) @ sums)
    low, high = np.nanquantile(spread, [_TAIL, 1.0 - _TAIL], axis=1)
    ips, snips, robust, naive, logged = (
        OffPolicyEstimate(value=float(value), low=float(least), high=float(most))
        for value, least, most in zip(found, low, high, strict=True)
    )
    return OffPolicy(
        inverse_propensity=ips,
        self_normalised=snips,
        doubly_robust=robust,
        naive=naive,
        logged=logged,
        pages=len(matches.viewers),
        viewers=len(sums),
        matched=len(weights),
        effective=_effective(weights),
        clip=clip,
        clipped_share=float((1.0 / matches.propensities > clip).mean()),
    )


def difference(ours: LoggedMatches, theirs: LoggedMatches, *, seed: int, clip: float = CLIP) -> OffPolicyEstimate:
    """By how much one ranker's pages would have brought more than another's, doubly robust.

    Args:
        ours: the logged pages beside the one's.
        theirs: the same pages beside the other's.
        seed: of the draws of viewers, which are the same for both: what is particular to a viewer cancels out.
        clip: where weights are cut.

    Raises:
        TrainingError: as `estimate_off_policy`, for either.
    """
    both = [_sums(each, clip) for each in (ours, theirs)]
    drawn = _drawn(len(both[0]), seed)
    values = [_estimates(sums.sum(axis=0)[None, :])[_DOUBLY_ROBUST, 0] for sums in both]
    spread = [_estimates(drawn @ sums)[_DOUBLY_ROBUST] for sums in both]
    low, high = np.nanquantile(spread[0] - spread[1], [_TAIL, 1.0 - _TAIL])
    return OffPolicyEstimate(value=float(values[0] - values[1]), low=float(low), high=float(high))


def _sums(matches: LoggedMatches, clip: float) -> Floats:
    """What the estimates are made of, one row a viewer.

    Raises:
        TrainingError: if a propensity is missing or no probability, or too few logged places match.
    """
    bad = ~((matches.propensities > 0.0) & (matches.propensities <= 1.0))
    if bad.any():
        raise TrainingError(f"{bad.sum()} of {len(bad)} matched places have no probability: they cannot be weighed")
    weights = np.minimum(1.0 / matches.propensities, clip)
    effective = _effective(weights)
    if effective < LEAST_EFFECTIVE:
        raise TrainingError(
            f"{len(weights)} logged places match the ranker's pages, worth {effective:.1f} without weights;"
            f" {LEAST_EFFECTIVE:.0f} are needed to say something",
            next_command="workbook status",
        )
    return _by_viewer(matches, weights)


def _effective(weights: Floats) -> float:
    """How many places without weights these are worth."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def _drawn(viewers: int, seed: int) -> Floats:
    """How often each viewer is drawn, shape (draws, viewers)."""
    shares = np.full(viewers, 1.0 / viewers)
    return np.random.default_rng(seed).multinomial(viewers, shares, _RESAMPLES).astype(np.float64)


def _by_viewer(matches: LoggedMatches, weights: Floats) -> Floats:
    """One row a viewer, one column a sum that the estimates are made of."""
    count = int(matches.viewers.max()) + 1
    of_place = matches.viewers[matches.page]

    def pages(values: Floats) -> Floats:
        return np.bincount(matches.viewers, values, minlength=count).astype(np.float64)

    def places(values: Floats) -> Floats:
        return np.bincount(of_place, values, minlength=count).astype(np.float64)

    return np.column_stack(
        [
            pages(np.ones(len(matches.viewers))),
            pages(matches.lengths),
            pages(matches.predicted),
            pages(matches.watched),
            places(weights),
            places(weights * matches.labels),
            places(weights * (matches.labels - matches.expected)),
            places(np.ones(len(weights))),
            places(matches.labels),
        ]
    )


def _estimates(sums: Floats) -> Floats:
    """The five estimates, shape (5, n), from sums of shape (n, 9); NaN where a sum has no weight at all."""
    pages, lengths, predicted, watched, weight, gained, errors, matched, seen = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        length = lengths / pages
        return np.array(
            [
                gained / pages,
                length * gained / weight,
                (predicted + errors) / pages,
                length * seen / matched,
                watched / pages,
            ]
        )
