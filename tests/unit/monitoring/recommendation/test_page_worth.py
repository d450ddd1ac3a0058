"""What a page is worth where the truth is known: viewers that differ, days that differ, sessions drawn by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference_system.monitoring.recommendation.page_worth import (
    LEAST_VIEWERS,
    SeenPages,
    worth_by_day,
    worth_of_policies,
)

DAYS = (20_000, 20_001, 20_002)
# What a page is worth on a day, of the ranker and by chance; each viewer has an appetite of their own beside it.
RANKER, CHANCE = np.array([2.4, 2.9, 2.6]), np.array([0.9, 1.3, 1.0])


def world(seed, *, viewers=400, sessions=700, days=DAYS, explored=0.1):
    """Pages in sessions of one to six, one session in ten drawn by chance; the ranker answers little on its first day.

    Appetites have a mean of one, and a session's length does not depend on them, so the planted worths are true.
    """
    rng = np.random.default_rng(seed)
    appetites = rng.gamma(2.0, 0.5, viewers)
    columns = []
    for number, day in enumerate(days):
        owners = rng.integers(viewers, size=sessions // 4 if number == 0 else sessions)
        pages = np.repeat(np.arange(len(owners)), rng.integers(1, 7, len(owners)))
        by_chance = (rng.random(len(owners)) < explored)[pages]
        wanted = np.where(by_chance, CHANCE[number % 3], RANKER[number % 3]) * appetites[owners[pages]]
        columns.append((np.full(len(pages), day), by_chance, owners[pages], rng.poisson(wanted)))
    day, by_chance, owners, watches = (np.concatenate(column) for column in zip(*columns, strict=True))
    return SeenPages(
        days=day,
        policies=np.where(by_chance, "popularity", "7"),
        viewers=owners,
        watches=watches,
        milliseconds=rng.integers(90_000, size=len(day)) * watches,
    )


def truths(seen):
    """The planted worth of the ranker's pages and of chance, each day counting as it does for the ranker."""
    counts = np.array([np.sum((seen.days == day) & (seen.policies == "7")) for day in DAYS])
    shares = counts / counts.sum()
    return float(shares @ RANKER), float(shares @ CHANCE)


def test_intervals_hold_the_planted_worth_about_95_times_of_100():
    held = {"watches": 0, "by_chance": 0, "gain": 0}
    seeds = range(200)
    for seed in seeds:
        seen = world(seed)
        ranker, chance = truths(seen)
        found = worth_of_policies(seen)[0]
        for name, truth in (("watches", ranker), ("by_chance", chance), ("gain", ranker - chance)):
            interval = getattr(found, name)
            held[name] += interval.low <= truth <= interval.high
    assert {name: 0.9 <= count / len(seeds) <= 0.99 for name, count in held.items()} == dict.fromkeys(held, True), held


def test_pages_taken_for_independent_would_promise_too_much():
    """The same pages with every page a viewer of its own: such intervals hold the truth far less often."""
    held = 0
    for seed in range(100):
        seen = world(seed)
        alone = replace(seen, viewers=np.arange(len(seen.viewers)))
        interval = worth_of_policies(alone)[0].watches
        held += interval.low <= truths(seen)[0] <= interval.high
    assert held < 80


def test_names_of_viewers_and_the_order_of_rows_change_no_figure():
    seen = world(3)
    rng = np.random.default_rng(1)
    names = rng.permutation(seen.viewers.max() + 1)
    order = rng.permutation(len(seen.days))
    shuffled = SeenPages(
        days=seen.days[order],
        policies=seen.policies[order],
        viewers=names[seen.viewers[order]],
        watches=seen.watches[order],
        milliseconds=seen.milliseconds[order],
    )
    assert worth_of_policies(shuffled) == worth_of_policies(seen)
    assert worth_by_day(shuffled) == worth_by_day(seen)


def pages(*rows):
    """Rows of (day, policy, viewer, watches), each as many pages as `LEAST_VIEWERS` viewers have."""
    days, policies, viewers, watches = zip(*rows, strict=True)
    return SeenPages(
        days=np.array(days),
        policies=np.array(policies),
        viewers=np.array(viewers),
        watches=np.array(watches),
        milliseconds=np.array(watches) * 60_000,
    )


def crowd(day, policy, watches, *, viewers=LEAST_VIEWERS, each=1):
    return [(day, policy, viewer, watches) for viewer in range(viewers) for _ in range(each)]


def test_what_is_the_same_for_everybody_has_no_uncertainty():
    first, last = worth_of_policies(pages(*crowd(1, "3", 2), *crowd(1, "popularity", 1)))
    assert (first.policy, first.pages, first.viewers, first.days) == ("3", LEAST_VIEWERS, LEAST_VIEWERS, (1,))
    for found, value in ((first.watches, 2), (first.by_chance, 1), (first.gain, 1), (first.minutes, 2)):
        assert (found.value, found.low, found.high) == (value, value, value)
    assert (last.policy, last.by_chance, last.gain) == ("popularity", None, None)


def test_chance_is_weighted_by_the_days_of_the_version():
    """Three of four of the version's pages are of the second day, and most of those by chance are of the first."""
    seen = pages(
        *crowd(1, "3", 2),
        *crowd(2, "3", 4, each=3),
        *crowd(1, "popularity", 1, each=9),
        *crowd(2, "popularity", 3),
    )
    found = worth_of_policies(seen)[0]
    assert found.watches.value == pytest.approx(3.5)
    assert found.by_chance.value == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert found.gain.value == pytest.approx(1.0)


def test_a_day_without_pages_by_chance_is_no_day_that_can_be_compared():
    seen = pages(*crowd(1, "3", 2), *crowd(2, "3", 9), *crowd(1, "popularity", 1))
    found = worth_of_policies(seen)[0]
    assert (found.days, found.watches.value, found.gain.value) == ((1,), 2.0, 1.0)


def test_without_any_page_by_chance_the_pages_are_worth_what_they_are_and_nothing_is_compared():
    (found,) = worth_of_policies(pages(*crowd(1, "3", 2), *crowd(2, "3", 4)))
    assert (found.days, found.watches.value, found.by_chance, found.gain) == ((1, 2), 3.0, None, None)


def test_few_viewers_give_no_interval_and_so_no_figure():
    seen = pages(*crowd(1, "3", 2, viewers=LEAST_VIEWERS - 1, each=40), *crowd(1, "popularity", 1))
    found = worth_of_policies(seen)[0]
    assert (found.watches, found.minutes, found.gain) == (None, None, None)
    assert found.by_chance is not None
    assert found.viewers == LEAST_VIEWERS - 1


def test_days_are_told_one_by_one_versions_before_chance():
    seen = pages(*crowd(2, "10", 1), *crowd(1, "9", 1), *crowd(1, "10", 1), *crowd(1, "popularity", 1))
    assert [(row.days, row.policy) for row in worth_by_day(seen)] == [
        ((1,), "10"),
        ((1,), "9"),
        ((1,), "popularity"),
        ((2,), "10"),
    ]


def test_pages_that_a_link_from_outside_filled_are_no_policys():
    seen = pages(*crowd(1, "3", 1), *crowd(1, "outside_link", 1))
    assert [row.policy for row in worth_of_policies(seen)] == ["3"]


def test_no_pages_are_worth_nothing_that_could_be_told():
    empty = SeenPages(
        days=np.empty(0, np.int64),
        policies=np.empty(0, np.str_),
        viewers=np.empty(0, np.int64),
        watches=np.empty(0, np.int64),
        milliseconds=np.empty(0, np.int64),
    )
    assert worth_of_policies(empty) == worth_by_day(empty) == ()
