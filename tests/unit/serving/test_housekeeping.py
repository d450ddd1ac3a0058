"""The background work: a new ranker, a refresh, a feature store that goes and comes."""

from __future__ import annotations

import zlib

import pytest
from local_broker import NOON
from served_models import States, fraud_model_for_tests, ranker_model_for_tests

from reference_system.clock import FixedClock
from reference_system.serving.challengers.events import News
from reference_system.serving.challengers.prometheus_metrics import ChallengerMetrics
from reference_system.serving.challengers.traffic import ChallengerPlan, Challengers, PlanSource
from reference_system.serving.champions import Champion, ChampionListener, ChampionSource
from reference_system.serving.feature_reads import DEADLINE_SECONDS, GuardedReads
from reference_system.serving.housekeeping import Housekeeping


class Parts:
    """Housekeeping over pointers and states that a test moves."""

    def __init__(self):
        self.versions = {"fraud": "1", "recommendation": "1"}
        self.states = States()
        self.up = True
        self.damaged = set()
        self.now = self.takes = 0.0
        self.events = []
        self.plans = {"fraud": None, "recommendation": None}
        self.house = Housekeeping(
            fraud=self._champion("fraud", fraud_model_for_tests),
            recommendation=self._champion("recommendation", ranker_model_for_tests),
            fraud_challengers=self._challengers("fraud", fraud_model_for_tests),
            ranking_challengers=self._challengers("recommendation", ranker_model_for_tests),
            reads=GuardedReads(lambda: self.read, monotonic=lambda: self.now),
            bulk_reads=GuardedReads(lambda: self.read, monotonic=lambda: self.now, deadline_seconds=1.0),
            clock=FixedClock(NOON),
            report=lambda event, **_: self.events.append(event),
        )

    def read(self, view, keys):
        if not self.up:
            raise OSError("gone")
        self.now += self.takes
        return self.states(view, keys)

    def _champion(self, use_case, load):
        source = ChampionSource(
            pointer=lambda: self.versions[use_case],
            alias=lambda: None,
            load=lambda version: self._load(use_case, version, load),
            confirm=lambda _version: None,
        )
        heard = ChampionListener(loaded=lambda _version: None, refused=lambda _version, _reason: None)
        return Champion(source, heard, monotonic=lambda: 0.0)

    def _load(self, use_case, version, load):
        if use_case in self.damaged:
            raise zlib.error("what no loader should let through")
        return load(version)

    def _challengers(self, use_case, load):
        source = PlanSource(
            plan=lambda: self.plans[use_case], load=lambda version: self._load(use_case, version, load)
        )
        news = News(use_case=use_case, metrics=ChallengerMetrics())
        return Challengers(source, news, budget_seconds=1.0, monotonic=lambda: self.now)


@pytest.fixture
def parts():
    return Parts()


def test_after_preparing_everything_is_there(parts):
    assert parts.house.missing == ["fraud", "recommendation"]
    parts.house.prepare()
    assert parts.house.missing == []
    assert parts.house.catalogue.tails is not None
    assert parts.events == ["features_up"]


def test_without_features_the_models_still_answer_and_recover_by_themselves(parts):
    parts.up = False
    parts.house.prepare()
    assert parts.house.missing == []
    assert parts.house.catalogue.tails is None
    parts.up = True
    parts.house.tick(1.0)
    assert parts.house.catalogue.tails is not None
    assert parts.events == ["features_down", "catalogue_not_refreshed", "features_up"]


def test_a_new_ranker_comes_with_its_own_catalogue_at_once(parts):
    parts.house.prepare()
    before = parts.house.catalogue
    parts.versions["recommendation"] = "2"
    parts.house.tick(1.0)
    assert (before.model.version, parts.house.catalogue.model.version) == ("1", "2")


def test_the_catalogue_is_refreshed_from_time_to_time(parts):
    parts.house.prepare()
    first = parts.house.catalogue
    parts.house.tick(1e9)
    second = parts.house.catalogue
    parts.house.tick(1e9 + 1.0)
    assert second is not first
    assert parts.house.catalogue is second


def test_a_refresh_that_fails_keeps_the_catalogue_of_before(parts):
    parts.house.prepare()
    before = parts.house.catalogue
    parts.up = False
    parts.house.tick(1e9)
    assert parts.house.catalogue is before


def test_a_catalogue_that_takes_long_to_read_disturbs_no_request(parts):
    parts.takes = DEADLINE_SECONDS * 4
    parts.house.prepare()
    for round_ in range(1, 6):
        parts.house.tick(round_ * 100.0)
    assert parts.house.catalogue.tails is not None
    assert parts.house.reads.failure is None
    assert parts.events == ["features_up"]


def test_a_planned_ranker_has_a_catalogue_of_its_own_and_goes_with_its_plan(parts):
    parts.house.prepare()
    champion = parts.house.catalogue
    parts.plans["recommendation"] = ChallengerPlan(mode="shadow", version="2", name="release-2", share=0.0, salt="s")
    parts.house.tick(1.0)
    beside = parts.house.ranking_challenger
    assert (beside.model.model.version, beside.model.tails is not None) == ("2", True)
    assert parts.house.beside == ["recommendation: version 2 as shadow"]
    assert parts.house.catalogue.model is champion.model
    parts.house.tick(2.0)
    assert parts.house.ranking_challenger is beside
    parts.plans["recommendation"] = None
    parts.house.tick(3.0)
    assert parts.house.ranking_challenger is None
    assert parts.house.beside == []


@pytest.mark.parametrize(("damaged", "other"), [("fraud", "recommendation"), ("recommendation", "fraud")])
def test_a_bundle_that_fails_in_an_unforeseen_way_keeps_no_other_use_case_from_being_served(parts, damaged, other):
    parts.damaged.add(damaged)
    parts.house.prepare()
    assert parts.house.missing == [damaged]
    parts.versions[other] = "2"
    parts.plans[other] = ChallengerPlan(mode="shadow", version="3", name="release-3", share=0.0, salt="s")
    parts.house.tick(1.0)
    assert (parts.house.missing, parts.house.beside) == ([damaged], [f"{other}: version 3 as shadow"])
    assert getattr(parts.house, other).current.version == "2"
    assert set(parts.events) == {"features_up", "housekeeping_failed"}
    parts.damaged.clear()
    parts.house.tick(2.0)
    assert parts.house.missing == []
