"""The state machine of releases: what moves it, what a crash leaves, what can never happen."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_broker import NOON
from tiny_models import tiny_bundle

from reference_system.errors import BundleRefused, StateError
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import current_version, set_current
from reference_system.registry.promotion_log import read_decisions
from reference_system.registry.release import releases
from reference_system.registry.release.guardrails import (
    Evidence,
    MetricDifference,
    OutcomeDifference,
    Policy,
    RequestComparison,
)
from reference_system.registry.release.releases import Means, Release, ReleaseStep, next_step
from reference_system.registry.traffic import TrafficPlan, read_plan, write_plan

HOUR = timedelta(hours=1)
POLICY = Policy(shadow=12 * HOUR, canary=24 * HOUR, share=0.2, latency_budget_ms=2.0)
FINE = RequestComparison(
    scoring_p99_ms=0.3,
    champion_scoring_p99_ms=None,
    psi=0.2,
    distinct_scores=900,
    champion_distinct_scores=900,
    alerts=0.02,
    champion_alerts=0.015,
)
GOOD = Evidence(champion="1", serving=True, pairs=1000, canary_answers=200, comparison=FINE)
SURELY_WORSE = OutcomeDifference(
    what="watches a page", count=90, difference=MetricDifference(low=-0.3, middle=-0.2, high=-0.1)
)
PERHAPS_WORSE = OutcomeDifference(
    what="watches a page", count=90, difference=MetricDifference(low=-0.3, middle=-0.2, high=0.1)
)


def release(stage="shadow", *, hours=48.0):
    since = NOON - hours * HOUR
    return Release(
        use_case="fraud", version="2", champion="1", stage=stage, salt="s", started=NOON - 60 * HOUR, since=since
    )


def seen(**fields):
    return replace(GOOD, comparison=replace(FINE, **fields))


@pytest.mark.parametrize(
    ("stage", "hours", "evidence", "to", "word"),
    [
        ("shadow", 48, GOOD, "canary", "without harm"),
        ("canary", 48, GOOD, "champion", "without harm"),
        ("shadow", 11, GOOD, "stay", "11.0 of 12.0 hours"),
        ("canary", 23, GOOD, "stay", "23.0 of 24.0 hours"),
        ("shadow", 48, replace(GOOD, pairs=299), "stay", "299 of 300"),
        ("shadow", 48, replace(GOOD, canary_answers=0), "canary", ""),
        ("canary", 48, replace(GOOD, canary_answers=99), "stay", "99 of 100"),
        ("shadow", 48, Evidence(champion="1", serving=False), "stay", "does not answer"),
        ("shadow", 48, replace(GOOD, serving=False), "stay", "does not answer"),
        ("shadow", 1, replace(GOOD, refused=True), "rolled back", "refuses"),
        ("canary", 1, replace(GOOD, tripped="slow: 3 of 9"), "rolled back", "slow"),
        ("shadow", 1, replace(GOOD, errors=20), "rolled back", "20 errors in 1220"),
        ("shadow", 48, replace(GOOD, errors=2), "canary", ""),
        ("shadow", 1, replace(GOOD, champion="3"), "rolled back", "the champion is 3 now"),
        ("shadow", 1, replace(GOOD, champion="2"), "champion", "outside of its release"),
        ("shadow", 1, seen(scoring_p99_ms=2.1), "rolled back", "2.10 ms"),
        ("canary", 48, seen(scoring_p99_ms=2.1, champion_scoring_p99_ms=1.0), "champion", ""),
        ("canary", 1, seen(scoring_p99_ms=3.1, champion_scoring_p99_ms=1.0), "rolled back", "3.00 ms"),
        ("shadow", 1, seen(alerts=0.11), "rolled back", "alerts on 11.0%"),
        ("shadow", 48, seen(alerts=0.11, champion_alerts=0.04), "canary", ""),
        (
            "shadow",
            1,
            seen(alerts=0.002, champion_alerts=0.03),
            "rolled back",
            "on 0.20% of payments, the champion on 3.00%",
        ),
        ("shadow", 48, seen(alerts=0.0, champion_alerts=0.02), "rolled back", "alerts on 0.00%"),
        ("shadow", 48, replace(seen(alerts=0.0, champion_alerts=0.01), pairs=500), "canary", ""),
        ("shadow", 48, seen(psi=6.0), "canary", ""),
        ("shadow", 1, seen(distinct_scores=1), "rolled back", "same score"),
        ("shadow", 48, seen(distinct_scores=1, champion_distinct_scores=1), "canary", ""),
        ("shadow", 1, seen(variety=0.1), "rolled back", "variety"),
        ("canary", 1, seen(outcomes=(SURELY_WORSE,)), "rolled back", "surely worse, by 0.2000"),
        ("canary", 48, seen(outcomes=(PERHAPS_WORSE,)), "champion", ""),
        # A handful of requests shows nothing about distributions.
        ("shadow", 1, replace(seen(alerts=0.5), pairs=10), "stay", "10 of 300"),
    ],
)
def test_a_look_at_a_release(stage, hours, evidence, to, word):
    step = next_step(release(stage, hours=hours), evidence, NOON, POLICY)
    assert step.to == to
    assert word in "; ".join(step.reasons)
    assert step.figures["pairs"] == evidence.pairs


def test_a_controller_that_was_away_for_weeks_holds_that_against_nobody():
    begun = release("canary", hours=1)
    late = begun.since + POLICY.deadline + HOUR
    assert next_step(begun, GOOD, late, POLICY).to == "champion"
    old = release("canary", hours=1)
    assert next_step(old, replace(GOOD, canary_answers=0), old.started + POLICY.deadline + HOUR, POLICY).to == "stay"


def test_a_release_that_nobody_uses_ends_at_the_deadline_and_says_what_it_waited_for():
    nobody = Evidence(champion="1", serving=True)
    begun = release(hours=48)
    assert next_step(begun, nobody, begun.since + POLICY.deadline - HOUR, POLICY).to == "stay"
    step = next_step(begun, nobody, begun.since + POLICY.deadline, POLICY)
    assert step.to == "rolled back"
    assert "shadow did not end within 10 days: 0 of 300 requests" in step.reasons[0]


class Place:
    """A state folder with two bundles, and the controller's means."""

    def __init__(self, root):
        self.root = root
        for version in ("1", "2", "3"):
            tiny_bundle(root, version=version)
        set_current(root, "fraud", "1")
        # Nothing listens there: the alias is owed.
        promote = partial(promoting.make_champion, root, 1, use_case="fraud", version="2")
        self.means = Means(share=0.2, promote=lambda decision: promote(decision=decision))

    def begin(self, version="2"):
        return releases.begin_release(self.root, use_case="fraud", version=version, champion="1", now=NOON, seed=7)

    def take(self, to, *, hours=1.0):
        found = releases.read_release(self.root, "fraud")
        if found is not None:
            step = ReleaseStep(to=to, reasons=(f"to {to}",), figures={"pairs": 9.0})
            releases.advance(self.root, found, step, NOON + hours * HOUR, self.means)

    def state(self):
        """Everything that was written."""
        return (
            releases.read_release(self.root, "fraud"),
            read_plan(self.root, "fraud"),
            current_version(self.root, "fraud"),
            [(each.kind, each.version) for each in read_decisions(self.root)],
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_whole_way_to_champion(place):
    assert place.begin().stage == "shadow"
    assert read_plan(place.root, "fraud").mode == "shadow"
    place.take("stay")
    assert releases.read_release(place.root, "fraud").reasons == ("to stay",)
    place.take("canary", hours=12)
    plan = read_plan(place.root, "fraud")
    assert (plan.mode, plan.share, plan.version, plan.salt) == ("canary", 0.2, "2", "fraud-2-7")
    assert releases.read_release(place.root, "fraud").since == NOON + 12 * HOUR
    place.take("champion", hours=36)
    kinds = [("shadow", "2"), ("canary", "2"), ("champion", "2")]
    assert place.state() == (None, None, "2", kinds)
    assert read_decisions(place.root)[-1].figures == {"pairs": 9.0}


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_rolling_back_leaves_the_champion_alone_and_the_version_starts_no_release_again(place, stage):
    place.begin()
    if stage == "canary":
        place.take("canary")
    place.take("rolled back", hours=2)
    found = place.state()
    assert found[:3] == (None, None, "1")
    assert found[3][-1] == ("rolled back", "2")
    with pytest.raises(StateError, match="version 2 was rolled back"):
        place.begin()
    place.begin("3")


def test_one_release_or_experiment_at_a_time(place):
    place.begin()
    with pytest.raises(StateError, match="the release of version 2 is on"):
        place.begin("3")
    releases.abort(place.root, "fraud", reason="by hand", now=NOON)
    plan = TrafficPlan(use_case="fraud", mode="experiment", version="3", name="pages", share=0.5, salt="s", since=NOON)
    write_plan(place.root, plan)
    with pytest.raises(StateError, match="the experiment pages is on"):
        place.begin("3")
    assert releases.abort(place.root, "fraud", reason="by hand", now=NOON) is None
    assert [each.kind for each in read_decisions(place.root)] == ["shadow", "rolled back", "experiment"]
    place.begin("3")


def test_what_was_judged_before_somebody_intervened_has_no_effect(place):
    judged = place.begin()
    releases.abort(place.root, "fraud", reason="by hand", now=NOON)
    before = place.state()
    step = ReleaseStep(to="canary", reasons=("late",), figures={})
    releases.advance(place.root, judged, step, NOON, place.means)
    assert place.state() == before


def test_without_a_release_there_is_nothing_to_abort_or_to_resume(place):
    before = place.state()
    assert releases.abort(place.root, "fraud", reason="by hand", now=NOON) is None
    assert releases.resume(place.root, "fraud", place.means) is None
    assert place.state() == before


def test_a_bundle_that_broke_meanwhile_does_not_become_champion(place):
    def refuse(_decision):
        raise BundleRefused("model.onnx has another digest")

    place.begin()
    place.take("canary")
    place.means = Means(share=0.2, promote=refuse)
    place.take("champion", hours=36)
    release_, plan, champion, decisions = place.state()
    assert (release_, plan, champion) == (None, None, "1")
    assert decisions[-1] == ("rolled back", "2")


def test_a_file_that_is_no_release_names_the_next_command(place):
    (place.root / "fraud" / releases.RELEASE).write_text("{")
    with pytest.raises(StateError, match="cannot be read") as raised:
        releases.read_release(place.root, "fraud")
    assert raised.value.next_command.startswith("rm ")


class Killed(BaseException):
    """The process ends here."""


EFFECTS = ("append_decision", "write_plan", "clear_plan", "_save")
PROMOTING = ("set_current", "append_decision", "settle_alias", "_owe")


def kill_at(monkeypatch, moment, *, after):
    """Let the process die before (or after) its `moment`-th effect."""
    seen = iter(range(1000))

    def dying(real):
        def call(*args, **kwargs):
            now = next(seen)
            if now == moment and not after:
                raise Killed
            done = real(*args, **kwargs)
            if now == moment:
                raise Killed
            return done

        return call

    for module, names in ((releases, EFFECTS), (promoting, PROMOTING)):
        for name in names:
            monkeypatch.setattr(module, name, dying(getattr(module, name)))


def controller(place, to, hours):
    """What a controller does whenever it starts: finish, then judge (here: decide what the test says)."""
    found = releases.read_release(place.root, "fraud")
    if found is not None and found.pending is not None:
        releases.resume(place.root, "fraud", place.means)
    else:
        place.take(to, hours=hours)


WAY = {"canary": ["canary"], "champion": ["canary", "champion"], "rolled back": ["canary", "rolled back"]}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("to", ["canary", "champion", "rolled back"])
def test_killed_at_any_line_and_started_again_it_ends_in_the_same_state(tmp_path, monkeypatch, to, after):
    undisturbed = Place(tmp_path / "undisturbed")
    undisturbed.begin()
    for number, one in enumerate(WAY[to]):
        undisturbed.take(one, hours=number + 1)
    died = 0
    for moment in range(12):
        place = Place(tmp_path / f"{moment}")
        place.begin()
        *earlier, last = WAY[to]
        for number, one in enumerate(earlier):
            place.take(one, hours=number + 1)
        with monkeypatch.context() as patch:
            kill_at(patch, moment, after=after)
            try:
                place.take(last, hours=len(WAY[to]))
            except Killed:
                died += 1
        if releases.read_release(place.root, "fraud") != undisturbed.state()[0]:
            controller(place, last, hours=len(WAY[to]))
        assert place.state() == undisturbed.state(), f"killed at effect {moment}"
    assert died >= 3


class Registry:
    """MLflow's aliases, as `promoting` sets them."""

    def __init__(self, patch):
        self.aliases = {"champion": "1"}
        patch.setattr(promoting.mlflow_rest, "get_alias", lambda _port, _case, alias: self.aliases.get(alias))
        patch.setattr(promoting.mlflow_rest, "delete_alias", lambda _port, _case, alias: self.aliases.pop(alias, None))
        patch.setattr(promoting.mlflow_rest, "set_version_tag", lambda *_: None)
        patch.setattr(promoting.mlflow_rest, "set_alias", self._set)

    def _set(self, _port, _use_case, alias, version):
        self.aliases[alias] = version


def stopped_by_hand(place, monkeypatch, *, dies_at, after):
    """`workbook release stop`; it may be killed itself, and is then called again."""
    with monkeypatch.context() as patch:
        if dies_at is not None:
            kill_at(patch, dies_at, after=after)
        with suppress(Killed):
            releases.abort(place.root, "fraud", reason="by hand", now=NOON + 50 * HOUR)
    releases.abort(place.root, "fraud", reason="by hand", now=NOON + 51 * HOUR)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("to", ["shadow", "canary", "champion", "rolled back"])
def test_killed_at_any_line_and_then_stopped_by_hand_pointer_log_and_alias_agree(tmp_path, monkeypatch, to, after):
    registry = Registry(monkeypatch)
    ends = set()
    for moment in range(9):
        for dies_at in (None, 0, 1, 2):
            registry.aliases = {"champion": "1"}
            place = Place(tmp_path / f"{moment}-{dies_at}")
            *earlier, last = ["shadow", *WAY.get(to, [])]
            for number, one in enumerate(earlier):
                place.take(one, hours=number) if number else place.begin()
            with monkeypatch.context() as patch:
                kill_at(patch, moment, after=after)
                with suppress(Killed):
                    place.take(last, hours=40) if earlier else place.begin()
            stopped_by_hand(place, monkeypatch, dies_at=dies_at, after=after)
            promoting.reconcile_champion(place.root, 1, use_case="fraud", now=NOON + 60 * HOUR)
            release_, plan, champion, decisions = place.state()
            told = f"killed at effect {moment}, then at {dies_at}: {decisions}"
            assert (release_, plan) == (None, None), told
            assert champion not in promoting.rolled_back(place.root, "fraud"), told
            assert registry.aliases["champion"] == champion, told
            assert promoting.champion_in_log(place.root, "fraud") == champion, told
            assert not promoting.alias_is_owed(place.root, "fraud"), told
            ends.add(champion)
    assert ends == ({"1", "2"} if to == "champion" else {"1"})


def test_a_release_that_had_reached_its_end_is_not_told_as_rolled_back(place, monkeypatch):
    place.begin()
    place.take("canary")
    with monkeypatch.context() as patch:
        patch.setattr(promoting, "append_decision", killed)
        with suppress(Killed):
            place.take("champion", hours=36)
    assert current_version(place.root, "fraud") == "2"
    assert releases.abort(place.root, "fraud", reason="by hand", now=NOON + 50 * HOUR) is None
    assert place.state() == (None, None, "2", [("shadow", "2"), ("canary", "2"), ("champion", "2")])


@pytest.mark.parametrize("ended_by", ["a look", "hand", "hand, twice because it was killed"])
def test_a_version_that_somebody_made_champion_outside_of_its_release_is_not_told_as_rolled_back(
    place, monkeypatch, ended_by
):
    judged = place.begin()
    set_current(place.root, "fraud", "2")  # as serving does when the alias is moved in MLflow's page
    if ended_by == "a look":
        evidence = replace(GOOD, champion=current_version(place.root, "fraud"))
        releases.advance(place.root, judged, next_step(judged, evidence, NOON, POLICY), NOON, place.means)
    if "killed" in ended_by:
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(releases, "clear_plan", killed)
            releases.abort(place.root, "fraud", reason="by hand", now=NOON)
    if ended_by != "a look":
        assert releases.abort(place.root, "fraud", reason="by hand", now=NOON + HOUR) is None
    assert place.state() == (None, None, "2", [("shadow", "2"), ("champion", "2")])


def test_a_roll_back_that_was_half_done_keeps_its_reason_when_somebody_stops_the_release(place, monkeypatch):
    place.begin()
    with monkeypatch.context() as patch:
        patch.setattr(releases, "clear_plan", killed)
        with suppress(Killed):
            place.take("rolled back")
    releases.abort(place.root, "fraud", reason="by hand", now=NOON + 50 * HOUR)
    assert [(each.kind, each.reasons) for each in read_decisions(place.root)][1:] == [
        ("rolled back", ("to rolled back",))
    ]


def test_a_champion_whose_bundle_broke_before_its_step_was_finished_is_not_told_as_rolled_back(place, monkeypatch):
    place.begin()
    place.take("canary")
    with monkeypatch.context() as patch:
        patch.setattr(promoting, "append_decision", killed)
        with suppress(Killed):
            place.take("champion", hours=36)
    (place.root / "fraud" / "2" / "model.onnx").write_bytes(b"damaged")
    releases.resume(place.root, "fraud", place.means)
    assert place.state() == (None, None, "2", [("shadow", "2"), ("canary", "2"), ("champion", "2")])


def killed(*_, **__):
    raise Killed


def test_killed_while_it_begins_it_has_begun_or_not(tmp_path, monkeypatch):
    begun = []
    for moment in range(6):
        place = Place(tmp_path / f"{moment}")
        with monkeypatch.context() as patch:
            kill_at(patch, moment, after=True)
            with suppress(Killed):
                place.begin()
        releases.resume(place.root, "fraud", place.means)
        release_, plan, champion, decisions = place.state()
        assert (release_.pending, plan.mode, champion, decisions) == (None, "shadow", "1", [("shadow", "2")])
        begun.append(release_)
    assert len({(each.version, each.salt, each.started) for each in begun}) == 1


evidences = st.builds(
    lambda good, tripped, pairs, answers, alerts, psi: replace(
        seen(alerts=alerts, psi=psi), tripped=tripped, pairs=pairs, canary_answers=answers, serving=good
    ),
    st.booleans(),
    st.sampled_from([None, None, None, "slow"]),
    st.integers(0, 2000),
    st.integers(0, 500),
    st.floats(0, 0.2),
    st.floats(0, 8),
)


@settings(max_examples=40, deadline=None)
@given(looks=st.lists(st.tuples(st.integers(1, 40), evidences), max_size=12))
def test_nobody_becomes_champion_without_a_canary_and_back_is_back(tmp_path_factory, looks):
    place = Place(tmp_path_factory.mktemp("place"))
    place.begin()
    now = NOON
    for hours, evidence in looks:
        found = releases.read_release(place.root, "fraud")
        if found is None:
            break
        now += hours * HOUR
        releases.advance(place.root, found, next_step(found, evidence, now, POLICY), now, place.means)
        if evidence.tripped:
            assert releases.read_release(place.root, "fraud") is None
    kinds = [each.kind for each in read_decisions(place.root)]
    ways = (["shadow", "canary", "champion"], ["shadow", "canary", "rolled back"], ["shadow", "rolled back"])
    assert any(kinds == way[: len(kinds)] for way in ways)
    assert (current_version(place.root, "fraud") == "2") == ("champion" in kinds)
    assert (read_plan(place.root, "fraud") is None) == (kinds[-1] in ("champion", "rolled back"))
