"""A challenger follows its plan, and the champion never depends on it."""

from __future__ import annotations

import pytest
from local_broker import NOON
from served_models import write_fraud_bundle

from reference_system.errors import BundleRefused, StateError
from reference_system.registry.bundles.bundle import set_current, version_folder
from reference_system.registry.traffic import TrafficPlan, clear_plan, write_plan
from reference_system.serving.bentoml_service import fraud_model, new_challengers, new_metrics
from reference_system.serving.challengers.breaker import MOST, WINDOW, Breaker
from reference_system.serving.challengers.traffic import ChallengerPlan, Challengers, PlanSource
from reference_system.serving.champions import REFUSED_SECONDS
from reference_system.use_cases.fraud.features import INPUTS

SHADOW = ChallengerPlan(mode="shadow", version="2", name="release-2", share=0.0, salt="s")
CANARY = ChallengerPlan(mode="canary", version="2", name="release-2", share=0.3, salt="s")
TEST = ChallengerPlan(mode="experiment", version="2", name="pages", share=0.5, salt="other")


class Followed:
    """A plan that a test changes, and what was heard of it."""

    def __init__(self):
        self.plan = None
        self.now = 0.0
        self.broken = None
        self.heard = []
        self.loads = 0
        source = PlanSource(plan=self.read, load=self.load)
        self.challengers = Challengers(source, self, budget_seconds=0.002, monotonic=lambda: self.now)

    def read(self):
        if isinstance(self.plan, Exception):
            raise self.plan
        return self.plan

    def load(self, version):
        self.loads += 1
        if self.broken:
            raise self.broken
        return f"model {version}"

    def planned(self, plan):
        self.heard.append(plan and plan.mode)

    def refused(self, version, reason):
        self.heard.append(f"refused {version}: {reason}")

    def tripped(self, version, reason):
        self.heard.append(f"tripped {version}: {reason.split(':')[0]}")

    def poll(self, plan):
        self.plan = plan
        self.challengers.poll()
        return self.challengers.current


@pytest.fixture
def followed():
    return Followed()


def test_the_plan_is_followed_from_shadow_to_canary_to_nobody(followed):
    assert followed.poll(None) is None
    shadow = followed.poll(SHADOW)
    assert followed.poll(SHADOW) is shadow
    assert (shadow.model, shadow.answers("c1"), shadow.is_shadowed) == ("model 2", False, True)
    canary = followed.poll(CANARY)
    assert (canary.plan, canary.breaker is shadow.breaker) == (CANARY, False)
    assert followed.poll(None) is None
    assert followed.heard == ["shadow", None, "canary", None]


def test_the_canary_answers_its_share_and_the_same_entities_always(followed):
    canary = followed.poll(CANARY)
    viewers = [f"c{number}" for number in range(4000)]
    first = [canary.answers(viewer) for viewer in viewers]
    restarted = Followed().poll(CANARY)
    assert first == [restarted.answers(viewer) for viewer in viewers]
    # Four standard deviations of a binomial share.
    assert abs(sum(first) / 4000 - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5


def test_an_experiment_has_arms_and_no_shadow(followed):
    challenger = followed.poll(TEST)
    assert not challenger.is_shadowed
    arms = {challenger.arm_of(f"w{number}") for number in range(50)}
    assert arms == {"control", "treatment"}
    assert all(challenger.answers(f"w{n}") == (challenger.arm_of(f"w{n}") == "treatment") for n in range(50))
    assert followed.poll(CANARY).arm_of("w1") is None


def test_a_refused_bundle_is_said_and_tried_again_later(followed):
    followed.broken = BundleRefused("model.onnx has another digest")
    for _ in range(3):
        assert followed.poll(SHADOW) is None
    assert (followed.heard, followed.loads) == (["refused 2: model.onnx has another digest"], 1)
    followed.broken = None
    followed.now = REFUSED_SECONDS
    assert followed.poll(SHADOW).version == "2"


def test_a_plan_that_cannot_be_read_is_no_plan(followed):
    followed.poll(CANARY)
    for _ in range(2):
        assert followed.poll(StateError("traffic.json cannot be read")) is None
    assert followed.heard == ["canary", "refused : traffic.json cannot be read", None]


def test_three_errors_of_a_hundred_open_the_breaker_and_it_stays_open(followed):
    canary = followed.poll(CANARY)
    answered = [f"c{n}" for n in range(100) if canary.answers(f"c{n}")]
    for _ in range(MOST - 1):
        canary.breaker.failed()
    assert canary.answers(answered[0])
    canary.breaker.failed()
    assert not any(canary.answers(entity) for entity in answered)
    assert not canary.is_shadowed
    canary.breaker.failed()
    assert followed.poll(CANARY) is canary
    assert followed.heard == ["canary", "tripped 2: errors"]


def test_errors_that_lie_far_apart_do_not_open_it():
    breaker = Breaker(0.002, lambda _: None)
    for _ in range(20):
        breaker.failed()
        for _ in range(WINDOW // (MOST - 1)):
            breaker.took(0.0001)
    assert breaker.reason is None


@pytest.mark.parametrize(
    ("champion", "challenger", "opens"),
    [(0.0001, 0.0019, False), (0.0001, 0.0021, True), (0.004, 0.0119, False), (0.004, 0.0121, True)],
)
def test_slow_is_above_the_budget_and_above_three_times_the_champion(champion, challenger, opens):
    breaker = Breaker(0.002, lambda _: None)
    for _ in range(WINDOW):
        breaker.champion_took(champion)
        breaker.took(challenger)
    assert (breaker.reason is not None) == opens


def test_a_slow_start_alone_opens_nothing():
    breaker = Breaker(0.002, lambda _: None)
    for seconds in (0.5, 0.1, *[0.0001] * WINDOW):
        breaker.took(seconds)
    assert breaker.reason is None


def test_the_service_loads_the_challenger_of_the_written_plan_through_the_verified_path(settings):
    root = settings.state_dir / "bundles"
    for version in ("1", "2"):
        write_fraud_bundle(root, version)
    set_current(root, "fraud", "1")
    plan = TrafficPlan(use_case="fraud", mode="canary", version="2", name="r", share=0.2, salt="s", since=NOON)
    write_plan(root, plan)

    def restart():
        metrics = new_metrics()
        challengers = new_challengers(settings, "fraud", INPUTS, fraud_model, metrics)
        challengers.poll()
        return challengers, metrics.text().decode()

    challengers, page = restart()
    assert challengers.current.model.version == "2"
    assert 'workbook_challenger_info{mode="canary",use_case="fraud",version="2"} 1.0' in page
    model = version_folder(root, "fraud", "2") / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    challengers, page = restart()
    assert challengers.current is None
    assert 'workbook_challenger_refused_total{use_case="fraud",version="2"} 1.0' in page
    clear_plan(root, "fraud")
    challengers, page = restart()
    assert challengers.current is None
    assert 'version="2"' not in page
