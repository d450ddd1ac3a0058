"""Selection: choose by prequential folds inside the training window, then let one judge look at what was fitted.

In: rows to learn from, an evaluator. Out: the candidates with their evaluations; the chosen one and why.
Invariant: the judged model is the one that is handed on; nothing is fitted again on what judged it, and where there
is a validation, the judge has no say in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reference_system.arrays import Floats, Floats32
from reference_system.errors import TrainingError
from reference_system.event_time import MICROS_PER_DAY
from reference_system.training.evaluation.evaluation import Evaluation, Evaluator, Scorer
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.model_search import (
    FoldRows,
    Search,
    conclude_search,
    negative_share,
    trials_of,
    try_out,
)
from reference_system.training.prequential import Protocol, prequential_folds
from reference_system.training.sklearn_estimators import FittedModel, fit_estimator


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A fitted model and what it is worth."""

    model: FittedModel
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All candidates, the best of them, and the baselines by the input that is their score.

    `reason` says why `best` was chosen; `folds` are its metrics in each prequential fold, the oldest first.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    baselines: Mapping[str, Evaluation]
    reason: str
    folds: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSpec:
    """What a use case's `model.py` says about its candidates, the simplest first.

    `validation` is how folds of the training window choose. Without it the judge does: for metrics that a fold of rows
    cannot give, and for what is too new for any fold. `most_negatives` is how many negative rows are learned from.
    """

    candidates: Sequence[str]
    baselines: Sequence[str]
    primary_metric: str
    inputs: Sequence[str]
    validation: Protocol | None = None
    most_negatives: int | None = None


def select(spec: SelectionSpec, rows: LabelledRows, evaluator: Evaluator, *, seed: int) -> Selection:
    """Search, fit the best setting of each estimator to all rows, evaluate.

    Raises:
        TrainingError: if no candidate has a primary metric that is a number.
    """
    most = spec.most_negatives
    share = 1.0 if most is None else negative_share(rows, most)
    if spec.validation is None:
        fitted = [fit_estimator(name, rows, seed=seed, negative_share=share) for name in spec.candidates]
        return _judged(spec, fitted, evaluator, chosen=None, reason="the best on the test window", folds=())
    found, shortened = _search(spec.candidates, spec.validation, rows, share=share, seed=seed)
    if found is None:
        simplest = spec.candidates[0]
        model = fit_estimator(simplest, rows, seed=seed, negative_share=share)
        reason = f"{simplest}: the simplest, because no fold of the training window has both outcomes"
        return _judged(spec, [model], evaluator, chosen=simplest, reason=reason, folds=())
    fitted = []
    for result in found.best_of_each:
        # The others are shown beside the winner; only the winner needs its full size.
        learn = result.trial.fit_to_keep if result is found.winner else result.trial.fit
        fitted.append(learn(rows, seed=seed, negative_share=share).calibrated(result.calibration()))
    return _judged(
        spec,
        fitted,
        evaluator,
        chosen=found.winner.trial.name,
        reason=found.reason + (f" ({shortened})" if shortened else ""),
        folds=tuple(fold.metrics for fold in found.winner.folds),
    )


def _search(
    names: Sequence[str], protocol: Protocol, rows: LabelledRows, *, share: float, seed: int
) -> tuple[Search | None, str | None]:
    """What the folds say, `None` if none can be used; and why they are shorter than asked for, if they are."""
    end = int(rows.times.max()) + 1
    # The first and the last row lie within the window: it is as many whole days as hold them.
    days = -(-(end - int(rows.times.min())) // MICROS_PER_DAY)
    folds = prequential_folds(end - days * MICROS_PER_DAY, end, protocol)
    trials = trials_of(names)
    results = []
    for fold in folds.folds:
        of_fold = FoldRows(train=fold.train(rows), test=fold.test(rows))
        if of_fold.usable:
            results.append(try_out(trials, of_fold, seed=seed, negative_share=share, say=_silence))
    return (conclude_search(trials, results) if results else None), folds.shortened


def _silence(_: str) -> None:
    """A flow says what it does by tasks, not by fits."""


def _judged(  # noqa: PLR0913 - the parts of a selection
    spec: SelectionSpec,
    fitted: Sequence[FittedModel],
    evaluator: Evaluator,
    *,
    chosen: str | None,
    reason: str,
    folds: tuple[Mapping[str, float], ...],
) -> Selection:
    candidates = tuple(Candidate(model=model, evaluation=evaluator.evaluate(model.score)) for model in fitted)
    worth = {one.model.name: one.evaluation.metrics[spec.primary_metric] for one in candidates}
    if not all(math.isfinite(value) for value in worth.values()):
        names, values = ", ".join(worth), list(worth.values())
        raise TrainingError(f"{spec.primary_metric} of {names} is {values}: not all numbers")
    best = max(worth, key=worth.__getitem__) if chosen is None else chosen
    return Selection(
        candidates=candidates,
        best=next(one for one in candidates if one.model.name == best),
        baselines={name: evaluator.evaluate(input_as_score(spec.inputs.index(name))) for name in spec.baselines},
        reason=reason,
        folds=folds,
    )


def input_as_score(column: int) -> Scorer:
    """A scorer that answers with one of the inputs."""

    def score(inputs: Floats32) -> Floats:
        return inputs[:, column].astype(float)

    return score


def require_parity(
    model: FittedModel, served: Callable[[Floats32], Floats], inputs: Floats32, *, most: float
) -> float:
    """The largest difference between a fitted model and its served form.

    Raises:
        TrainingError: if it is larger than `most`: they are not the same model.
    """
    difference = float(abs(model.score(inputs) - served(inputs)).max())
    if not difference <= most:
        raise TrainingError(f"{model.name} scores differently as ONNX, by up to {difference:.2g} (at most {most:.0g})")
    return difference
