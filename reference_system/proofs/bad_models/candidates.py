"""Bad candidates: trainings with a planted fault, run through the real gate and, if they pass it, the guardrails.

In: a number of candidates, a seed. Out: the outcome of each; how many sound candidates (controls) were promoted.
Invariant: every candidate is fitted, exported, written as a bundle and loaded as in the live system; gate and
guardrails get no information about the planted fault.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np

from reference_system.errors import BundleRefused, TrainingError
from reference_system.flows.release_control import policy_of
from reference_system.flows.training.gate_evidence import Opponents, judged_scores
from reference_system.flows.training.trained_model import (
    Trained,
    selection_spec_of,
    split_of,
    train_case,
    write_trained,
)
from reference_system.proofs.bad_models.fraud_fixture import CardWorld, make_card_world
from reference_system.proofs.bad_models.planted_faults import PLANTS, Plant
from reference_system.proofs.bad_models.simulated_release import released
from reference_system.registry.bundles.bundle import Bundle, load_bundle
from reference_system.registry.release.guardrails import Policy
from reference_system.settings import Settings
from reference_system.training.evaluation.training_serving_skew import AsServed
from reference_system.training.fraud.case import FraudCase, prepare_fraud
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.prequential import fold_rows
from reference_system.training.selection import SelectionSpec
from reference_system.use_cases.fraud.features import INPUTS

# The candidates are trained 28 days after the champion and released in the following week. The gate promotes a
# candidate that is better, or not worse than a champion of this age, so it must detect the planted fault.
_DAYS, _CHAMPION_DAY, _CANDIDATE_DAY, _STALE_DAY = 92, 54, 82, 66
CUSTOMERS = 1_000
_TERMINALS_EACH = 2
# Each candidate learns from the payments of a new sample of this share of the cards: a hundred different trainings.
_CARDS = 0.9
# The champion learned from fewer, so that a sound candidate is not worse. A much weaker champion, such as one that
# has not seen an attack, would let bad candidates through: they would be significantly better.
_CHAMPION_CARDS = 0.5
# One sound candidate for this many bad ones.
_CONTROLS_EVERY = 5
_SERVED_ROWS = 2_000
_ESTIMATOR = "extra_trees"


class CandidateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: the planted fault (`none` for a control), the outcome and its reason."""

    planted: str
    outcome: str
    reason: str


class CandidatesReport(msgspec.Struct, frozen=True, kw_only=True):
    """All candidates: `stopped` bad ones were refused, held or rolled back; `promoted` controls became champion."""

    times: int
    seed: int
    stopped: int
    controls: int
    promoted: int
    candidates: tuple[CandidateResult, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every bad candidate was stopped and more than half of the controls were promoted."""
        return self.stopped == self.times and 2 * self.promoted > self.controls


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """A world with a champion, and the sound cases from which candidates are trained."""

    root: Path
    world: CardWorld
    champion: Bundle
    case: FraudCase
    stale: FraudCase
    spec: SelectionSpec
    policy: Policy


def bad_candidates(
    *, times: int, seed: int, progress: Callable[[float, str], None], customers: int = CUSTOMERS
) -> CandidatesReport:
    """Train `times` bad candidates and some sound ones, and run them through the gate and the guardrails.

    Args:
        times: the number of bad ones.
        seed: of the world, the faults and the trainings.
        progress: called with the share that is done and a message.
        customers: the size of the world.
    """
    began = monotonic()
    kinds = list(PLANTS)
    rng = np.random.default_rng(seed)
    controls = max(2, times // _CONTROLS_EVERY)
    planted = [kinds[number % len(kinds)] for number in range(times)] + ["none"] * controls
    with tempfile.TemporaryDirectory(prefix="bad-candidates-") as folder:
        progress(0.0, "a world, and its champion")
        scene = _scene(Path(folder), seed, customers)
        results = []
        for number, name in enumerate(planted):
            result = _one(scene, name, version=str(number + 2), rng=rng)
            results.append(result)
            progress((number + 1) / len(planted), f"{name}: {result.outcome}")
    bad = [result for result in results if result.planted != "none"]
    good = [result for result in results if result.planted == "none"]
    return CandidatesReport(
        times=times,
        seed=seed,
        stopped=sum(result.outcome != "promoted" for result in bad),
        controls=len(good),
        promoted=sum(result.outcome == "promoted" for result in good),
        candidates=tuple(results),
        seconds=monotonic() - began,
    )


def _scene(folder: Path, seed: int, customers: int) -> _Scene:
    settings = Settings(
        _env_file=None,
        seed=seed,
        state_dir=folder,
        customers=customers,
        terminals=_TERMINALS_EACH * customers,
        viewers=50,
        videos=100,
    )
    world = make_card_world(settings, folder, days=_DAYS)

    def case(day: int) -> FraudCase:
        return prepare_fraud(world.lake, split_of("fraud", _day(settings, day)), world.join)

    # One estimator for all: a model search for each of a hundred would take an hour and show nothing more.
    spec = replace(selection_spec_of("fraud"), candidates=(_ESTIMATOR,), validation=None)
    known = _some_cards(case(_CHAMPION_DAY), np.random.default_rng(seed), share=_CHAMPION_CARDS)
    first = train_case("fraud", known, seed=seed, spec=spec)
    root = folder / "bundles"
    champion = load_bundle(write_trained(first, "1", root), use_case="fraud", inputs=INPUTS)
    return _Scene(
        # The live system's policy, with fewer days to wait for labels.
        policy=replace(policy_of(settings, "fraud"), deadline=timedelta(days=6)),
        root=root,
        world=world,
        champion=champion,
        case=case(_CANDIDATE_DAY),
        stale=case(_STALE_DAY),
        spec=spec,
    )


def _one(scene: _Scene, name: str, *, version: str, rng: np.random.Generator) -> CandidateResult:
    """Train, plant, evaluate, release."""
    plant = PLANTS.get(name, Plant())
    case = _some_cards(scene.case, rng)
    if plant.stale:
        # An old training set, evaluated in the current window.
        case = replace(case, train=_some_cards(scene.stale, rng).train)
    sound = case
    if plant.rows is not None:
        case = plant.rows(case, rng)
    try:
        trained = train_case("fraud", case, seed=int(rng.integers(1_000)), spec=scene.spec)
        if plant.model is not None:
            trained = plant.model(trained, rng)
        challenger = _bundle(scene, trained, version, renamed=plant.renamed, rng=rng)
    except (TrainingError, BundleRefused) as error:
        return CandidateResult(planted=name, outcome="refused", reason=str(error))
    opponents = Opponents(
        champion=scene.champion,
        rolled_back=(),
        served=_served(case.evaluator.rows, sound.evaluator.rows),
        learned=_served(case.train, sound.train),
    )
    verdict = judged_scores(trained, challenger, opponents, seed=1)
    if verdict.answer != "promote":
        outcome = {"hold": "held", "refuse": "refused"}[verdict.answer]
        return CandidateResult(planted=name, outcome=outcome, reason=verdict.reasons[0])
    step = released(scene.world, scene.champion, challenger, scene.policy, since=scene.case.split.as_of)
    outcome = "promoted" if step.to == "champion" else step.to
    return CandidateResult(planted=name, outcome=outcome, reason=step.reasons[0])


def _bundle(scene: _Scene, trained: Trained, version: str, *, renamed: bool, rng: np.random.Generator) -> Bundle:
    names = list(INPUTS)
    if renamed:
        one, other = rng.choice(len(names), 2, replace=False)
        names[one], names[other] = names[other], names[one]
    written = replace(trained, spec=replace(trained.spec, inputs=names))
    return load_bundle(write_trained(written, version, scene.root), use_case="fraud", inputs=INPUTS)


def _some_cards(case: FraudCase, rng: np.random.Generator, *, share: float = _CARDS) -> FraudCase:
    """The case with the training rows of some of the cards."""
    kept = rng.random(int(case.train.groups.max()) + 1) < share
    return replace(case, train=fold_rows(case.train, kept[case.train.groups]))


def _served(history: LabelledRows, sound: LabelledRows) -> AsServed:
    """The newest rows, as in the prediction log of a sound service."""
    newest = slice(-_SERVED_ROWS, None)
    return AsServed(history=history.inputs[newest], served=sound.inputs[newest], paired=True)


def _day(settings: Settings, day: int) -> datetime:
    return settings.history_start + timedelta(days=day)
