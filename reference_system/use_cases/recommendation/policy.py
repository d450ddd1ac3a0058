"""From ranked candidates to a page: repeats, diversity and a place for chance are rules, not the model's business.

In: ranked candidates, and for chance a number in [0, 1). Out: a page, with the probability of each of its videos.
Invariant: the same candidates and the same number give the same page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice

# No more than this share of a page comes from one category.
MAX_CATEGORY_SHARE = 0.4
# The policy of pages on which any video of the catalogue can stand, each with its logged probability. What was
# watched on them can judge any ranker; on a ranker's own pages it can judge only what that ranker thought of.
BY_CHANCE = "popularity"
# The last place is drawn among this many videos, those that come next.
EXPLORED_POOL = 50


def compose_page(ranked: Sequence[int], categories: Sequence[int], watched: Collection[int], *, k: int) -> list[int]:
    """The first k videos that keep the rules; if the rules leave too few, the best of the rest fill up.

    Args:
        ranked: catalogue indices, best first.
        categories: the category of each catalogue index.
        watched: what the viewer watched lately and is not shown again.
        k: the length of the page.
    """
    limit = max(1, int(k * MAX_CATEGORY_SHARE))
    page: list[int] = []
    held_back: list[int] = []
    used: dict[int, int] = {}
    for item in ranked:
        if len(page) == k:
            break
        category = categories[item]
        if item in watched or used.get(category, 0) >= limit:
            held_back.append(item)
            continue
        used[category] = used.get(category, 0) + 1
        page.append(item)
    fresh = [item for item in held_back if item not in watched]
    stale = [item for item in held_back if item in watched]
    return (page + fresh + stale)[:k]


def explore(  # noqa: PLR0913 - the page, what it was made of, and chance
    page: Sequence[int],
    ranked: Sequence[int],
    categories: Sequence[int],
    watched: Collection[int],
    *,
    k: int,
    draw: float,
) -> tuple[list[int], list[float]]:
    """The page with its last place drawn, and the probability of each video to stand where it stands.

    All videos of the pool have the same chance: the first `EXPLORED_POOL` in the ranking that are not on the page
    yet and keep its rules. A page of one place, and one that the rules could not fill, stays as it is.

    Args:
        page: what `compose_page` made.
        ranked: catalogue indices, best first.
        categories: the category of each catalogue index.
        watched: what the viewer watched lately and is not shown again.
        k: the length of the page.
        draw: where chance fell, in [0, 1).
    """
    certain = [1.0] * len(page)
    if len(page) < k or k == 1:
        return list(page), certain
    kept = list(page[:-1])
    limit = max(1, int(k * MAX_CATEGORY_SHARE))
    used = Counter(categories[item] for item in kept)
    taken = {*kept, *watched}
    keeps_rules = (item for item in ranked if item not in taken and used[categories[item]] < limit)
    pool = list(islice(keeps_rules, EXPLORED_POOL))
    if not pool:
        return list(page), certain
    chosen = pool[min(int(draw * len(pool)), len(pool) - 1)]
    return [*kept, chosen], [*certain[:-1], 1.0 / len(pool)]
