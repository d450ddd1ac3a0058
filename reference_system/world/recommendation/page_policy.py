"""The page policy without a model: popular videos, new videos, and a random share.

In: demand and ages of the known videos. Out: pages, with the exact probability that a video is on one.
Invariant: propensities of all videos sum to the length of the page, and each is positive, so pages of this policy can
be used to evaluate other policies.
"""

from __future__ import annotations

import numpy as np

from reference_system.arrays import Floats
from reference_system.use_cases.recommendation.policy import BY_CHANCE
from reference_system.world.columns import WORLD_PAGE_LENGTH, IdColumn

POLICY = BY_CHANCE
_POPULAR, _FRESH, _ANY = 0.5, 0.2, 0.3
_FRESH_DAYS = 3.0
# Pages that share one random order of the videos. Each page has its own random start, so its propensities are exact;
# only co-occurrence is correlated. A permutation for each page would take most of the generation's time.
_PAGES_PER_ORDER = 8


def inclusion(demand: Floats, ages: Floats) -> Floats:
    """The probability of each video to be on a page; shapes (videos,)."""
    freshness = np.exp(-ages / _FRESH_DAYS) + 1e-9
    shares = _POPULAR * demand / demand.sum() + _FRESH * freshness / freshness.sum() + _ANY / len(demand)
    probabilities: Floats = shares * (WORLD_PAGE_LENGTH / shares.sum())
    # A video is on a page at most once: probability above 1 goes to the others, in proportion.
    while (probabilities > 1.0).any():
        sure = probabilities >= 1.0
        probabilities[sure] = 1.0
        probabilities[~sure] *= (WORLD_PAGE_LENGTH - sure.sum()) / probabilities[~sure].sum()
    return probabilities


def draw_pages(rng: np.random.Generator, probabilities: Floats, count: int) -> IdColumn:
    """`count` pages of distinct videos, shape (count, PAGE_LENGTH), in random order.

    Systematic sampling: lay the probabilities end to end in random order and step along them with stride 1. Each
    video is selected with exactly its probability.
    Source: W. G. Madow, On the theory of systematic sampling II, Annals of Mathematical Statistics, 1949.
    """
    videos = len(probabilities)
    groups = -(-count // _PAGES_PER_ORDER)
    orders = rng.permuted(np.tile(np.arange(videos), (groups, 1)), axis=1)
    ladders = np.cumsum(probabilities[orders], axis=1)
    ladders *= WORLD_PAGE_LENGTH / ladders[:, -1:]  # correct the rounding
    group = np.arange(count) // _PAGES_PER_ORDER
    steps = rng.random(count)[:, None] + np.arange(WORLD_PAGE_LENGTH)
    # One search for all groups: each ladder is shifted above the previous one.
    ladders += WORLD_PAGE_LENGTH * np.arange(groups)[:, None]
    found = np.searchsorted(ladders.ravel(), (steps + WORLD_PAGE_LENGTH * group[:, None]).ravel(), side="right")
    places = found.reshape(count, WORLD_PAGE_LENGTH) - (group * videos)[:, None]
    pages: IdColumn = orders[group[:, None], places.clip(0, videos - 1)]
    return pages
