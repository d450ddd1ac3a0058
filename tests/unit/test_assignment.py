"""Assignment: chance that everybody computes alike."""

from __future__ import annotations

import numpy as np
import pytest

from reference_system.assignment import is_in_share, place_of

ENTITIES = [f"c{number:06d}" for number in range(20_000)]


def test_an_entity_has_one_place_for_each_salt():
    # A value of the first release: another one would move every entity of a running canary.
    assert place_of("c000001", "release-1") == 0.9944856579708848


def test_a_share_holds_that_share_of_the_entities():
    places = np.array([place_of(entity, "canary") for entity in ENTITIES])
    assert places.min() >= 0.0
    assert places.max() < 1.0
    # Three standard errors of 20,000 draws.
    for share in (0.05, 0.2, 0.5):
        assert abs((places < share).mean() - share) < 3 * (share * (1 - share) / len(places)) ** 0.5


def test_a_larger_share_keeps_everybody_of_the_smaller_one():
    small = {entity for entity in ENTITIES[:2_000] if is_in_share(entity, "canary", 0.1)}
    large = {entity for entity in ENTITIES[:2_000] if is_in_share(entity, "canary", 0.4)}
    assert small < large


def test_two_salts_are_independent():
    one, other = (np.array([place_of(entity, salt) for entity in ENTITIES]) for salt in ("a", "b"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 3 / len(ENTITIES) ** 0.5


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (1.0, True)])
def test_nobody_and_everybody_are_shares_too(share: float, expected: bool):  # noqa: FBT001 - a table's column
    assert all(is_in_share(entity, "any", share) is expected for entity in ENTITIES[:100])
