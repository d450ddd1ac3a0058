from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.commands.loop.scenario import app
from reference_system.errors import ServiceError, StateError
from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.world.columns import NO_VIDEO
from reference_system.world.recommendation.viewing import OUTSIDE_LINK
from reference_system.world.scenarios import (
    DESCRIPTIONS,
    SCENARIOS,
    Run,
    Scenario,
    active_at,
    read_runs,
    started,
    stopped,
    write_runs,
)
from reference_system.world.simulation import HISTORY_SLICE, INFLATION, Happened, World, make_world


@pytest.fixture
def default_settings() -> Settings:
    return Settings(_env_file=None)


def days_with(settings: Settings, days: int, *names: Scenario) -> tuple[World, Happened]:
    """A world that lives for some days, with the scenarios on from its first moment."""
    world = make_world(settings)
    runs = [Run(name=name, started=moment_of(world.generated)) for name in names]
    end = world.generated + days * MICROS_PER_DAY
    return world, world.advance(end, HISTORY_SLICE, world.viewing.popular_pages, runs)


def test_a_scenario_is_on_from_its_start_to_its_stop(settings: Settings):
    at = settings.history_start
    runs = started((), Scenario.TASTE_SHIFT, at)
    assert active_at(runs, micros(at)) == {Scenario.TASTE_SHIFT: micros(at)}
    assert active_at(runs, micros(at) - 1) == {}
    ended = stopped(runs, Scenario.TASTE_SHIFT, at + timedelta(hours=1))
    assert active_at(ended, micros(at) + 1) == {Scenario.TASTE_SHIFT: micros(at)}
    assert active_at(ended, micros(at + timedelta(hours=1))) == {}
    again = started(ended, Scenario.TASTE_SHIFT, at + timedelta(hours=2))
    assert len(again) == 2


def test_a_scenario_cannot_be_started_twice_nor_stopped_when_it_is_off(settings: Settings):
    runs = started((), Scenario.FRAUD_ATTACK, settings.history_start)
    with pytest.raises(StateError, match="is on already, since 2025-01-06 00:00"):
        started(runs, Scenario.FRAUD_ATTACK, settings.history_start)
    with pytest.raises(StateError, match="taste-shift is not on"):
        stopped(runs, Scenario.TASTE_SHIFT, settings.history_start)


def test_runs_survive_their_file(tmp_path: Path, settings: Settings):
    path = tmp_path / "world" / SCENARIOS
    assert read_runs(path) == ()
    runs = started((), Scenario.VIRAL_VIDEO, settings.history_start)
    write_runs(path, runs)
    assert read_runs(path) == runs
    assert [found.name for found in path.parent.iterdir()] == [SCENARIOS]


def test_a_damaged_file_is_named(tmp_path: Path):
    path = tmp_path / SCENARIOS
    path.write_text('[{"name": "earthquake"}]')
    with pytest.raises(StateError, match=str(path)):
        read_runs(path)


def test_a_fraud_attack_multiplies_the_frauds_with_amounts_that_look_normal(default_settings: Settings):
    _, usual = days_with(default_settings, 3)
    world, attacked = days_with(default_settings, 3, Scenario.FRAUD_ATTACK)
    assert attacked.payments.frauds.sum() > 3 * usual.payments.frauds.sum()
    assert attacked.payments.frauds.mean() > 3 * usual.payments.frauds.mean()
    start = micros(default_settings.history_start)
    planted = world.fraud.attack(start, start, start + MICROS_PER_DAY)
    genuine = usual.payments.amounts[~usual.payments.frauds]
    assert np.median(planted.amounts) == pytest.approx(np.median(genuine), rel=0.25)


def test_the_cards_of_a_fraud_attack_have_no_past(default_settings: Settings):
    begun = micros(default_settings.history_start) + MICROS_PER_DAY // 3
    world = make_world(default_settings)
    second_day = micros(default_settings.history_start) + MICROS_PER_DAY
    first = world.fraud.attack(begun, begun, second_day).customers
    second = world.fraud.attack(begun, second_day, second_day + MICROS_PER_DAY).customers
    assert first.min() >= default_settings.customers
    assert not set(first.tolist()) & set(second.tolist())
    assert len(second) / len(np.unique(second)) == pytest.approx(2.5, rel=0.3)


def test_genuine_payments_are_the_same_with_and_without_an_attack(default_settings: Settings):
    _, usual = days_with(default_settings, 1)
    _, attacked = days_with(default_settings, 1, Scenario.FRAUD_ATTACK)
    kept = set(zip(usual.payments.customers.tolist(), usual.payments.amounts.tolist(), strict=True))
    found = set(zip(attacked.payments.customers.tolist(), attacked.payments.amounts.tolist(), strict=True))
    assert kept <= found


def test_inflation_raises_every_amount_and_leaves_the_frauds_alone(default_settings: Settings):
    _, usual = days_with(default_settings, 2)
    _, inflated = days_with(default_settings, 2, Scenario.AMOUNT_INFLATION)
    assert inflated.payments.times.tolist() == usual.payments.times.tolist()
    assert inflated.payments.frauds.tolist() == usual.payments.frauds.tolist()
    assert inflated.payments.amounts == pytest.approx(usual.payments.amounts * INFLATION, abs=0.02)


def test_a_taste_shift_moves_what_viewers_watch_to_other_categories(default_settings: Settings):
    one, usual = days_with(default_settings, 3)
    two, shifted = days_with(default_settings, 3, Scenario.TASTE_SHIFT)

    def match(world: World, happened: Happened) -> float:
        """How much the watched videos suit the tastes that the viewers had before."""
        watches = happened.watches
        tastes = world.viewing.viewers.tastes(watches.viewers, watches.times, jumped=False)
        categories = world.viewing.catalogue.categories[watches.videos]
        return float(np.take_along_axis(tastes, categories[:, None], axis=1).mean())

    assert match(two, shifted) < 0.6 * match(one, usual)


def test_a_viral_video_takes_a_large_share_of_what_is_watched(default_settings: Settings):
    world = make_world(default_settings)
    start = world.generated
    world.advance(start + MICROS_PER_DAY, HISTORY_SLICE, world.viewing.popular_pages)
    runs = [Run(name=Scenario.VIRAL_VIDEO, started=moment_of(start + MICROS_PER_DAY))]
    video = world.viewing.catalogue.known(start + MICROS_PER_DAY) - 1
    happened = world.advance(start + 2 * MICROS_PER_DAY, HISTORY_SLICE, world.viewing.popular_pages, runs)
    assert (happened.watches.videos == video).mean() > 0.1
    assert 1 / 1440 < (start + MICROS_PER_DAY - world.viewing.catalogue.published[video]) / MICROS_PER_DAY < 1
    linked = happened.pages.take(happened.pages.policies == OUTSIDE_LINK)
    assert len(linked) > 0.3 * (happened.pages.numbers == 0).sum()
    assert (linked.videos[:, 0] == video).all()
    assert (linked.videos[:, 1:] == NO_VIDEO).all()
    assert (linked.propensities[:, 0] == 1.0).all()


def test_a_scenario_that_starts_between_two_slices_takes_effect_with_the_next_one(default_settings: Settings):
    world = make_world(default_settings)
    middle = world.generated + HISTORY_SLICE // 2
    runs = [Run(name=Scenario.AMOUNT_INFLATION, started=moment_of(middle))]
    usual = make_world(default_settings)
    with_run = world.advance(world.generated + 2 * HISTORY_SLICE, HISTORY_SLICE, world.viewing.popular_pages, runs)
    without = usual.advance(usual.generated + 2 * HISTORY_SLICE, HISTORY_SLICE, usual.viewing.popular_pages)
    factors = with_run.payments.amounts / without.payments.amounts
    second = with_run.payments.times >= micros(default_settings.history_start) + HISTORY_SLICE
    assert factors[~second] == pytest.approx(1.0)
    assert factors[second] == pytest.approx(INFLATION, rel=0.02)


@pytest.fixture
def running(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a state directory whose clock beats."""
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(settings.state_dir))
    beat = Heartbeat(event_time=settings.history_start, wall_seconds=wall_seconds(), speed=1.0)
    write_heartbeat(StatePaths(settings.state_dir).clock, beat)
    return settings


def test_the_list_names_every_scenario_and_what_to_look_at(running: Settings):
    answer = CliRunner().invoke(app, ["list", "--json"])
    assert answer.exit_code == 0
    listed = json.loads(answer.stdout)["scenarios"]
    assert [scenario["name"] for scenario in listed] == list(Scenario) == list(DESCRIPTIONS)
    assert all(scenario["does"] and scenario["look_at"] and scenario["since"] is None for scenario in listed)
    assert running.state_dir.exists()


def test_starting_and_stopping_is_recorded_at_event_time(running: Settings):
    runner = CliRunner()
    assert "taste-shift is on from 2025-01-06 00:00 UTC" in runner.invoke(app, ["start", "taste-shift"]).stdout
    listed = json.loads(runner.invoke(app, ["list", "--json"]).stdout)["scenarios"]
    assert [scenario["name"] for scenario in listed if scenario["since"]] == ["taste-shift"]
    assert "taste-shift" in runner.invoke(app, ["list"]).stdout
    answer = json.loads(runner.invoke(app, ["stop", "taste-shift", "--json"]).stdout)
    assert answer["state"] == "off"
    (run,) = read_runs(StatePaths(running.state_dir).world / SCENARIOS)
    assert run.stopped is not None
    assert running.history_start <= run.started <= run.stopped


@pytest.mark.usefixtures("running")
def test_an_unknown_scenario_is_answered_with_the_names():
    error = CliRunner().invoke(app, ["start", "earthquake"]).exception
    assert isinstance(error, StateError)
    assert "fraud-attack, amount-inflation, taste-shift, viral-video" in error.for_person()


@pytest.mark.parametrize("speed", [None, 0.0, 1.0])
def test_nothing_starts_while_no_world_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch, speed: float | None):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(settings.state_dir))
    if speed is not None:  # stopped in order, or gone without a word a minute ago
        beat = Heartbeat(
            event_time=settings.history_start, wall_seconds=wall_seconds() - (60.0 if speed else 0.0), speed=speed
        )
        write_heartbeat(StatePaths(settings.state_dir).clock, beat)
    error = CliRunner().invoke(app, ["start", "taste-shift"]).exception
    assert isinstance(error, ServiceError)
    assert error.for_person() == "no world runs, so no scenario can be started or stopped; run `make up`"
    assert read_runs(StatePaths(settings.state_dir).world / SCENARIOS) == ()


def test_a_run_refuses_what_it_does_not_know():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name":"taste-shift","started":"2025-01-06T00:00:00Z","by":"me"}', type=Run)
