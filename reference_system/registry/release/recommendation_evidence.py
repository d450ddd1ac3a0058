"""Both rankers on the same pages, and what viewers of either watched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Flags, Floats
from reference_system.registry.release.evidence import ScorePairs, around, compared
from reference_system.registry.release.guardrails import (
    MetricDifference,
    OutcomeDifference,
    RequestComparison,
)

# Viewers in each arm from which on a difference has an interval that can be believed.
MIN_VIEWERS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePairs:
    """Pages that both models composed, and what was watched of the pages that were shown.

    `videos` and `champion_videos` count the different videos on them. The watches have one element for each viewer of
    a canary: how many videos of a page were watched, on average, and whether the challenger chose the viewer's pages.
    """

    said: ScorePairs
    videos: int
    champion_videos: int
    watches: Floats
    in_canary: Flags


def compare_pages(pairs: PagePairs) -> RequestComparison | None:
    """The recommenders side by side; `None` before anything was composed by both."""
    if not len(pairs.said.scores) or not len(pairs.said.champion_scores):
        return None
    ours, theirs = pairs.watches[pairs.in_canary], pairs.watches[~pairs.in_canary]
    watched = OutcomeDifference(what="watches a page", count=len(ours), difference=_means(ours, theirs))
    return compared(pairs.said, variety=pairs.videos / max(pairs.champion_videos, 1), outcomes=(watched,))


def _means(ours: Floats, theirs: Floats) -> MetricDifference | None:
    if min(len(ours), len(theirs)) < MIN_VIEWERS:
        return None
    error = np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    return around(float(ours.mean() - theirs.mean()), float(error))
