"""Which version answers: pointer, alias, refusal, absence of the registry."""

from __future__ import annotations

import pytest

from reference_system.errors import BundleRefused, ServiceError
from reference_system.serving.champions import REFUSED_SECONDS, Champion, ChampionListener, ChampionSource


class World:
    """A pointer, a registry, bundles, and what was heard."""

    def __init__(self):
        self.pointer = self.alias = None
        self.registry_up = True
        self.bad = set()
        self.now = 0.0
        self.loads, self.loaded, self.refused = [], [], []
        source = ChampionSource(
            pointer=lambda: self.pointer, alias=self._alias, load=self._load, confirm=self._confirm
        )
        heard = ChampionListener(
            loaded=self.loaded.append, refused=lambda version, _reason: self.refused.append(version)
        )
        self.champion = Champion(source, heard, monotonic=lambda: self.now)

    def _alias(self):
        if not self.registry_up:
            raise ServiceError("MLflow is away")
        return self.alias

    def _load(self, version):
        self.loads.append(version)
        if version in self.bad:
            raise BundleRefused(f"{version} is bad")
        return f"model {version}"

    def _confirm(self, version):
        self.pointer = version

    def poll(self):
        self.champion.poll_pointer()
        self.champion.poll_alias()
        return self.champion.current.version if self.champion.current else None


@pytest.fixture
def world():
    return World()


def test_nothing_answers_before_the_first_promotion(world):
    assert world.poll() is None
    assert world.loads == []


def test_the_pointer_is_enough_with_the_registry_away(world):
    world.pointer, world.registry_up = "3", False
    assert world.poll() == "3"
    assert world.champion.current.model == "model 3"


def test_a_moved_pointer_is_followed_and_loaded_once(world):
    world.pointer = "1"
    world.poll()
    world.pointer = "2"
    assert [world.poll(), world.poll()] == ["2", "2"]
    assert world.loads == ["1", "2"]


def test_an_alias_moved_in_the_registry_is_followed_and_the_pointer_moves_with_it(world):
    world.pointer = world.alias = "1"
    world.poll()
    world.alias = "2"
    assert world.poll() == "2"
    assert world.pointer == "2"
    assert world.loaded == ["1", "2"]


def test_a_rollback_of_the_alias_is_followed(world):
    world.pointer = world.alias = "2"
    world.poll()
    world.alias = "1"
    assert [world.poll(), world.poll()] == ["1", "1"]


def test_whichever_moved_last_is_followed(world):
    world.pointer = world.alias = "1"
    world.poll()
    world.pointer = "2"  # by hand; the alias still says 1
    assert [world.poll(), world.poll()] == ["2", "2"]


def test_a_refused_bundle_leaves_the_old_one_serving(world):
    world.pointer = "1"
    world.poll()
    world.bad.add("2")
    world.pointer = "2"
    assert [world.poll(), world.poll()] == ["1", "1"]
    assert world.refused == ["2"]
    assert world.loads == ["1", "2"]


def test_a_refused_bundle_that_was_mended_is_taken_later(world):
    world.bad.add("2")
    world.pointer = "2"
    assert world.poll() is None
    world.bad.clear()
    assert world.poll() is None
    world.now += REFUSED_SECONDS
    assert world.poll() == "2"


def test_a_registry_that_comes_back_is_followed_again(world):
    world.pointer = "1"
    world.registry_up = False
    world.poll()
    world.alias, world.registry_up = "2", True
    assert world.poll() == "2"


def test_a_good_alias_takes_over_where_the_pointer_names_a_bad_bundle(world):
    world.bad.add("2")
    world.pointer, world.alias = "2", "1"
    assert world.poll() == "1"
    assert world.pointer == "1"


def test_an_alias_that_was_removed_changes_nothing(world):
    world.pointer = world.alias = "1"
    world.poll()
    world.alias = None
    assert world.poll() == "1"
