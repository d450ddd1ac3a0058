"""Evidence: everything that the gate looks at, measured.

In: a trained challenger with its bundle, the champion's bundle, what was served, what was rolled back. Out: a verdict.
Invariant: both models score the same rows with the bytes that serve; nothing here decides, the gate does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import thread_time

import numpy as np

from reference_system.arrays import Floats, Floats32
from reference_system.event_time import moment_of
from reference_system.flows.training.case import CaseChecks, no_checks, training_case
from reference_system.flows.training.trained_model import Trained, evaluators_of, split_of
from reference_system.metrics.ranking import Ordered
from reference_system.registry.bundles.bundle import Bundle, BundleManifest
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.registry.gate import checks as gate_checks
from reference_system.registry.gate import decision as gate
from reference_system.registry.gate.checks import SlicePair
from reference_system.training.evaluation.evaluation import CALIBRATION_ERROR, Evaluation, Evaluator
from reference_system.training.evaluation.training_serving_skew import AsServed
from reference_system.use_cases import DECLARATIONS

# Scored again and again, in time of our own on the processor: the least of several p99s, because other processes only
# ever add to it.
_CALLS, _ROUNDS = 50, 5
_P99 = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Opponents:
    """Whom a challenger meets, and what else is known: the champion, what was rolled back, what was served.

    `served` holds rows of the evaluation, `learned` rows of the training; `checks` are those of the use case.
    """

    champion: Bundle | None
    rolled_back: Sequence[BundleManifest]
    served: AsServed
    learned: AsServed
    checks: CaseChecks = no_checks


def opponents_of(
    trained: Trained, lake: Path, *, champion: Bundle | None, rolled_back: Sequence[BundleManifest]
) -> Opponents:
    """The opponents, with what the prediction log holds of both windows."""
    known = training_case(trained.use_case)
    served, learned = known.served(lake, trained.case)
    checks = known.checks(lake, trained.case, champion)
    return Opponents(champion=champion, rolled_back=rolled_back, served=served, learned=learned, checks=checks)


def judged_scores(
    trained: Trained, challenger: Bundle, opponents: Opponents, *, seed: int, timer: Callable[[], float] = thread_time
) -> gate.GateDecision:
    """The gate's answer to a challenger."""
    champion = None if opponents.champion is None else opponents.champion.scorer
    windows = evaluators_of(trained.case)
    first, evaluator = next(iter(windows.items()))
    ours = evaluator.evaluate(challenger.scorer.score)
    theirs = None if champion is None else evaluator.evaluate(champion.score)
    contenders = gate.Contenders(
        metric=trained.spec.primary_metric,
        groups=evaluator.groups,
        challenger=ours.primary,
        champion=None if theirs is None else theirs.primary,
        baselines={name: evaluation.primary for name, evaluation in trained.selection.baselines.items()},
        # After an alarm what counts is what the model knows of the days since: age forgives it nothing.
        tolerance=0.0 if trained.case.split.is_fresh else gate.WORSE_BY,
        newer=timedelta(0) if trained.case.split.is_fresh else _newer(challenger, opponents.champion),
    )
    verdict = gate.decide_gate(contenders, ours.metrics, seed=seed)
    checks = [*_model_checks(trained, challenger, opponents, timer), *_row_checks(trained, challenger, opponents)]
    if champion is not None:
        others = (one for name, one in windows.items() if name != first)
        checks += [_mature_check(one, challenger.scorer, champion, seed=seed) for one in others]
    checks.append(_calibration_check(trained, challenger.scorer, champion, ours))
    checks += opponents.checks(challenger.scorer, champion, seed)
    if theirs is not None:
        checks.append(gate_checks.slice_check(_pairs(ours, theirs), evaluator.groups, seed=seed))
    return gate.conclude_gate(verdict, checks)


def _newer(challenger: Bundle, champion: Bundle | None) -> timedelta:
    """How much later the challenger's training ends."""
    ends = challenger.manifest.data_window.end
    return timedelta(0) if champion is None else ends - champion.manifest.data_window.end


def _model_checks(
    trained: Trained, challenger: Bundle, opponents: Opponents, timer: Callable[[], float]
) -> list[gate.GateCheck]:
    """What follows from the bundles alone."""
    split, manifest = trained.case.split, challenger.manifest
    champion = None if opponents.champion is None else opponents.champion.manifest
    rows = DECLARATIONS[trained.use_case].gate.rows_a_request
    micros = latency(challenger.scorer, trained.case.evaluator.rows.inputs, rows=rows, timer=timer)
    newest = moment_of(int(trained.case.train.times.max()))
    # What the split of this moment lets it be, whatever it was in fact trained on.
    expected = split_of(trained.use_case, split.as_of, trigger=trained.trigger).train.end
    return [
        *gate_checks.cost_checks(trained.use_case, micros=micros, model_bytes=len(trained.model)),
        gate_checks.staleness_check(manifest, champion, newest_row=newest, gap=split.as_of - expected),
        gate_checks.again_check(manifest, opponents.rolled_back),
    ]


def _row_checks(trained: Trained, challenger: Bundle, opponents: Opponents) -> list[gate.GateCheck]:
    """What follows from the rows: what was learned from, what judges, what was served."""
    names, evaluator = trained.spec.inputs, trained.case.evaluator.rows
    served, score = opponents.served, challenger.scorer.score
    checks = [
        gate_checks.learned_check(names, trained.case.train.inputs, evaluator.inputs),
        gate_checks.leak_check(names, _single_input_auc(evaluator.inputs, evaluator.labels)),
        gate_checks.served_check(names, served.history, served.served),
    ]
    for what, both in (("judged", served), ("training", opponents.learned)):
        if both.paired:
            scores = np.stack([score(both.history), score(both.served)])
            checks.append(gate_checks.parity_check(names, (both.history, both.served), scores, what=what))
    return checks


def _mature_check(evaluator: Evaluator, challenger: OnnxScorer, champion: OnnxScorer, *, seed: int) -> gate.GateCheck:
    ours, theirs = evaluator.evaluate(challenger.score), evaluator.evaluate(champion.score)
    return gate_checks.mature_check(ours.primary, theirs.primary, evaluator.groups, seed=seed)


def _calibration_check(
    trained: Trained, challenger: OnnxScorer, champion: OnnxScorer | None, ours: Evaluation
) -> gate.GateCheck:
    """On mature labels where there are some: unreported frauds make every good score look too high."""
    evaluator = list(evaluators_of(trained.case).values())[-1]
    found = ours if evaluator is trained.case.evaluator else evaluator.evaluate(challenger.score)
    before = None if champion is None else evaluator.evaluate(champion.score).metrics[CALIBRATION_ERROR]
    return gate_checks.calibration_check(trained.use_case, found.metrics[CALIBRATION_ERROR], before)


def _pairs(ours: Evaluation, theirs: Evaluation) -> dict[str, SlicePair]:
    champions = theirs.slices()
    return {
        name: SlicePair(challenger=one.worth, champion=champions[name].worth, positives=one.positives)
        for name, one in ours.slices().items()
    }


def latency(scorer: OnnxScorer, inputs: Floats32, *, rows: int, timer: Callable[[], float]) -> float:
    """How long a request's rows take, p99 in microseconds."""
    batch = np.ascontiguousarray(inputs[np.arange(rows) % len(inputs)])
    scorer.score(batch)
    worst = []
    for _ in range(_ROUNDS):
        taken = []
        for _ in range(_CALLS):
            began = timer()
            scorer.score(batch)
            taken.append(timer() - began)
        worst.append(float(np.quantile(taken, _P99)))
    return 1e6 * min(worst)


def _single_input_auc(inputs: Floats32, labels: Floats) -> Floats:
    """How well each input alone orders the outcomes, in the better of both directions."""
    found = np.array([Ordered.by(column.astype(np.float64), labels).roc_auc() for column in inputs.T])
    better: Floats = np.maximum(found, 1.0 - found)
    return better
