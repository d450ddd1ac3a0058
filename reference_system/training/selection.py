"""Selection: fit every candidate, let one judge look at all of them and at what would decide without a model.

In: rows to learn from, a judge. Out: the candidates with their judgements; the best one by the primary metric.
Invariant: the judged model is the one that is handed on; nothing is fitted again on what judged it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reference_system.errors import TrainingError
from reference_system.training.judges import Judge, Judgement, Scorer
from reference_system.training.labelled_rows import Inputs, LabelledRows
from reference_system.training.sklearn_estimators import FittedModel, fit
from reference_system.windows import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A fitted model and what it is worth."""

    model: FittedModel
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All candidates, the best of them, and the baselines by the input that is their score."""

    candidates: tuple[Candidate, ...]
    best: Candidate
    baselines: Mapping[str, Judgement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What a use case's `model.py` says about its candidates."""

    candidates: Sequence[str]
    baselines: Sequence[str]
    primary_metric: str
    inputs: Sequence[str]


def select(contest: Contest, rows: LabelledRows, judge: Judge, *, seed: int) -> Selection:
    """Fit, judge and choose.

    Raises:
        TrainingError: if no candidate has a primary metric that is a number.
    """
    fitted = [fit(name, rows, seed=seed) for name in contest.candidates]
    candidates = tuple(Candidate(model=model, judgement=judge.judge(model.score)) for model in fitted)
    worth = [candidate.judgement.metrics[contest.primary_metric] for candidate in candidates]
    if not all(math.isfinite(value) for value in worth):
        raise TrainingError(f"{contest.primary_metric} of {', '.join(contest.candidates)} is {worth}: not all numbers")
    baselines = {name: judge.judge(input_as_score(contest.inputs.index(name))) for name in contest.baselines}
    return Selection(candidates=candidates, best=candidates[worth.index(max(worth))], baselines=baselines)


def input_as_score(column: int) -> Scorer:
    """A scorer that answers with one of the inputs."""

    def score(inputs: Inputs) -> Floats:
        return inputs[:, column].astype(float)

    return score


def require_parity(model: FittedModel, served: Callable[[Inputs], Floats], inputs: Inputs, *, most: float) -> float:
    """The largest difference between a fitted model and its served form.

    Raises:
        TrainingError: if it is larger than `most`: they are not the same model.
    """
    difference = float(abs(model.score(inputs) - served(inputs)).max())
    if not difference <= most:
        raise TrainingError(f"{model.name} scores differently as ONNX, by up to {difference:.2g} (at most {most:.0g})")
    return difference
