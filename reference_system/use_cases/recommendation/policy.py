"""From ranked candidates to a page: repeats and diversity are rules, not the model's business."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# No more than this share of a page comes from one category.
MAX_CATEGORY_SHARE = 0.4


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
