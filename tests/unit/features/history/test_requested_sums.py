"""Sums at asked moments: what history says, and what a part of the events says."""

from __future__ import annotations

import numpy as np
import pytest
from small_lake import START, at, chargeback, page, payment, put, time_at, watch

from reference_system.event_time import micros
from reference_system.features.history.requested_sums import sums_at, sums_known
from reference_system.features.history.values import feature_rows
from reference_system.features.history.window_sums import features_of, terms_of
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.features import VIDEO_POPULARITY, VIEWER_ACTIVITY

WINDOWED = (CUSTOMER_ACTIVITY, TERMINAL_RISK, VIEWER_ACTIVITY, VIDEO_POPULARITY)
HOURS = 45 * 24


def events(seed=3, count=120):
    """Rows of four topics, with the hour at which each became known."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        hours = float(rng.integers(0, HOURS * 4)) / 4.0
        who, where = f"c{rng.integers(3)}", f"t{rng.integers(3)}"
        found.append((hours, "transactions", payment(n, hours, customer=who, terminal=where, amount=float(n))))
        if n % 4 == 0:
            known = hours + float(rng.choice([1.0, 24 * 6.0, 24 * 7.0, 24 * 8.0]))
            found.append((known, "chargebacks", chargeback(n, hours, known, customer=who, terminal=where)))
        videos = rng.choice(5, 3, replace=False).tolist()
        found.append((hours, "impressions", page(n, hours, videos, viewer=who)))
        found.append((hours + 0.3, "watches", watch(n, hours + 0.3, videos[0], viewer=who, completion=0.5)))
    return found


def write(lake, rows):
    for topic in ("transactions", "chargebacks", "impressions", "watches"):
        put(lake, topic, *(row for _, name, row in rows if name == topic))


@pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
def test_the_features_of_the_sums_are_those_of_history(tmp_path, view):
    write(tmp_path / "lake", events())
    expected = feature_rows(view, tmp_path / "lake", START, at(HOURS + 24))
    times = np.array([micros(moment) for moment in expected["event_timestamp"].to_pylist()])
    # A tiled view says the same until the next tile end.
    asked = times + (view.tile_micros and view.tile_micros - 1)
    order = np.random.default_rng(1).permutation(len(asked))
    found = features_of(
        view, sums_at(view, tmp_path / "lake", expected[view.entity].take(order).combine_chunks(), asked[order])
    )
    values = np.column_stack([expected[name].to_numpy() for name in view.features])
    assert len(found) > 50
    np.testing.assert_allclose(found, values[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
def test_sums_of_what_was_known_are_those_of_a_lake_without_the_rest(tmp_path, view):
    rows = events()
    write(tmp_path / "lake", rows)
    entities = {"customer_id": "c1", "terminal_id": "t1", "viewer_id": "c1", "video_id": "m1"}
    hours = [240.0, 600.0, 600.0, 1000.0]
    known = [200.0, 600.0, 380.0, 990.0]
    keys = [entities[view.entity]] * len(hours)
    found = sums_known(
        view, tmp_path / "lake", keys, np.array([*map(time_at, hours)]), np.array([*map(time_at, known)])
    )
    for number, (hour, until) in enumerate(zip(hours, known, strict=True)):
        lake = tmp_path / f"lake-{number}"
        write(lake, [row for row in rows if row[0] <= until])
        expected = sums_at(view, lake, keys[:1], np.array([time_at(hour)]))
        np.testing.assert_allclose(found[number], expected[0], rtol=1e-12)
    assert not np.array_equal(found[1], found[2])


def test_nothing_asked_and_nobody_known(tmp_path):
    write(tmp_path / "lake", events(count=4))
    width = len(terms_of(CUSTOMER_ACTIVITY))
    assert sums_at(CUSTOMER_ACTIVITY, tmp_path / "lake", [], np.array([], np.int64)).shape == (0, width)
    nobody = sums_at(CUSTOMER_ACTIVITY, tmp_path / "lake", ["nobody"], np.array([time_at(100)]))
    assert nobody.tolist() == [[0.0] * width]
    nothing = sums_known(CUSTOMER_ACTIVITY, tmp_path / "lake", ["c1"], np.array([time_at(2000)]), np.array([-1]))
    assert nothing.tolist() == [[0.0] * width]
