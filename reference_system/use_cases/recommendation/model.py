"""Two stages: candidate generation and ranking, and how a page is judged.

In: what a viewer watched lately, the catalogue, popularity. Out: an ordered page with the provenance of each video.
Invariant: a viewer has no parameters of their own: what was watched lately decides, from the first watch on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.use_cases.recommendation.features import INPUTS

NAME = "recommendation"
SIGNATURE = INPUTS
# Estimators by the names that `training/sklearn_estimators.py` knows; the first is the simple one.
CANDIDATES = ("logistic_regression", "gradient_boosting")
PRIMARY_METRIC = "ndcg@10"
# What would rank without a model: recent popularity and popularity. A first model must beat both.
BASELINES = ("video_watch_count_1d", "video_watch_count_30d")
PAGE_LENGTH = 10
TRAIN_DAYS = 21
TEST_DAYS = 7
CANDIDATE_COUNT = 300
NEIGHBOURS = 50
FACTORS = 64
# How many candidates each source may name; what is left belongs to the newest (all of them) and the popular.
_SHARE_OF_NEIGHBOURS, _SHARE_OF_FACTORS = 3, 5

# What was reached, and what could be. Over many viewers both are added up before they are divided: the estimate with
# weights then has a small variance (it is self-normalised).
IntervalOfShare = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Item-to-item similarity: for each video of the catalogue its nearest videos.

    `items` has shape (n, NEIGHBOURS): indices into the catalogue, nearest first, -1 where there are fewer.
    `similarities` has the same shape.
    """

    items: Ints
    similarities: Floats


def item_neighbours(viewers: Ints, videos: Ints, *, n_videos: int, n_viewers: int) -> Neighbours:
    """Cosine similarity of the sets of viewers that watched each video.

    Args:
        viewers: shape (m,), the viewer's index of each watch.
        videos: shape (m,), the video's index of each watch.
        n_videos: size of the catalogue.
        n_viewers: number of viewers.

    Source: Sarwar et al., Item-based collaborative filtering recommendation algorithms, WWW 2001.
    """
    watched = np.zeros((n_viewers, n_videos), np.float32)
    watched[viewers, videos] = 1.0
    together = watched.T @ watched
    norms = np.sqrt(np.maximum(np.diag(together), 1.0))
    similar = together / norms[:, None] / norms[None, :]
    np.fill_diagonal(similar, 0.0)
    k = min(NEIGHBOURS, n_videos)
    items = np.argsort(-similar, axis=1, kind="stable")[:, :k].astype(np.int64)
    values = np.take_along_axis(similar, items, axis=1).astype(np.float64)
    return Neighbours(items=np.where(values > 0.0, items, -1), similarities=values)


def folded_in(recent: Sequence[int], vectors: Floats32) -> Floats32 | None:
    """A viewer's vector: those of the last watches, the newest counting most; `None` if none of them has one.

    Args:
        recent: catalogue indices of what the viewer watched lately, newest first.
        vectors: shape (n, d), one for each video that the factors know.
    """
    ranks = [rank for rank, item in enumerate(recent) if item < len(vectors)]
    if not ranks or not vectors.shape[1]:
        return None
    weights = (1.0 / (1.0 + np.asarray(ranks))).astype(np.float32)
    folded: Floats32 = weights @ vectors[[recent[rank] for rank in ranks]]
    return folded if folded.any() else None


def nearest(vectors: Floats32, wanted: Floats32, *, count: int) -> Ints:
    """The `count` videos whose vectors have the largest product with `wanted`, best first: exact, no index.

    Of equal products the first video wins. A partition by index would leave that to the processor's instructions.
    """
    falling = -_products(vectors, wanted)
    last = np.partition(falling, count - 1)[count - 1] if count < len(falling) else np.inf
    some = np.flatnonzero(falling <= last)
    found: Ints = some[np.argsort(falling[some], kind="stable")][:count]
    return found


def _products(vectors: Floats32, wanted: Floats32) -> Floats32:
    """The product of each vector with `wanted`, on every processor the same.

    Not by `@`: its threads wait for one another, on two busy cores ten times longer than the product takes.
    """
    found: Floats32 = np.einsum("nd,d->n", vectors, wanted)
    return found


def generate_candidates(  # noqa: PLR0913 - one argument for each source
    recent: Sequence[int],
    neighbours: Neighbours,
    vectors: Floats32,
    popular: Sequence[int],
    newest: Sequence[int],
    *,
    count: int = CANDIDATE_COUNT,
) -> Mapping[int, str]:
    """At most `count` videos with the source that named each first: neighbours, factors, newest, popular.

    Args:
        recent: catalogue indices of what the viewer watched lately, newest first.
        neighbours: the item-to-item table; videos newer than it have no row in it.
        vectors: the factors of the same videos, shape (n, d); a video that nobody watched has zeros.
        popular: catalogue indices by recent watches, most first.
        newest: catalogue indices by publication, newest first.
        count: how many candidates at most.
    """
    weights: dict[int, float] = {}
    for rank, item in enumerate(recent):
        if item >= len(neighbours.items):
            continue
        for near, similarity in zip(neighbours.items[item], neighbours.similarities[item], strict=True):
            if near >= 0:
                weights[int(near)] = weights.get(int(near), 0.0) + float(similarity) / (1.0 + rank)
    near_items = sorted(weights, key=lambda item: (-weights[item], item))
    wanted = folded_in(recent, vectors)
    alike = [] if wanted is None else _alike(vectors, wanted, count=max(count // _SHARE_OF_FACTORS, 1))
    # Newest videos are few and would never win on popularity: they get their places before the long list.
    chosen: dict[int, str] = {}
    for source, items in (
        ("neighbours", near_items[: max(count // _SHARE_OF_NEIGHBOURS, 1)]),
        ("factors", alike),
        ("newest", newest),
        ("popular", popular),
    ):
        for item in items:
            if len(chosen) >= count:
                return chosen
            chosen.setdefault(item, source)
    return chosen


def _alike(vectors: Floats32, wanted: Floats32, *, count: int) -> list[int]:
    """The nearest that have anything in common with what is wanted: a video that nobody watched has nothing."""
    found = nearest(vectors, wanted, count=count)
    items: list[int] = found[_products(vectors[found], wanted) > 0.0].tolist()
    return items


def recall_at(ranked: Sequence[int], relevant: set[int], *, k: int) -> float:
    """The share of the relevant videos among the first k."""
    return len(relevant.intersection(ranked[:k])) / len(relevant)


def ndcg_at(ranked: Sequence[int], relevant: set[int], *, k: int) -> float:
    """Normalised discounted cumulative gain with binary relevance.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    gain, ideal = gain_at(ranked, dict.fromkeys(relevant, 1.0), k=k)
    return gain / ideal


def weight_at(ranked: Sequence[int], relevant: Mapping[int, float], *, k: int) -> IntervalOfShare:
    """The weight of the relevant videos among the first k, and of all of them: recall@k of weighted videos."""
    return sum(relevant.get(item, 0.0) for item in ranked[:k]), sum(relevant.values())


def gain_at(ranked: Sequence[int], relevant: Mapping[int, float], *, k: int) -> IntervalOfShare:
    """The discounted gain of the first k, and that of the ideal order: ndcg@k of weighted videos."""
    ideal = sorted(relevant.values(), reverse=True)
    return _discounted([relevant.get(item, 0.0) for item in ranked[:k]]), _discounted(ideal[:k])


def _discounted(weights: Sequence[float]) -> float:
    return sum(weight / math.log2(rank) for rank, weight in enumerate(weights, start=2))
