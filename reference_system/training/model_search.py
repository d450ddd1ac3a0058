"""Model search: which estimator, with which setting, does best on what came after what it learned from.

In: folds with their rows, trials. Out: what each trial was worth in each fold, one winner, the reason in words.
Invariant: a trial is judged in a fold on rows that are younger than all it learned from there. The simpler estimator
wins unless another is better by more than the folds differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats
from reference_system.errors import TrainingError
from reference_system.metrics.ranking import Ordered
from reference_system.training.evaluation.calibration import Calibration, fit_calibration
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.sklearn_estimators import (
    EstimatorSetting,
    FittedModel,
    fit_estimator,
    kept_setting,
    settings_of,
)

METRIC = "average_precision"
# With fewer positive rows than this in all folds together, a calibration would be a guess.
_FEWEST_POSITIVES = 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An estimator with a setting."""

    name: str
    setting: EstimatorSetting

    def __str__(self) -> str:
        """The way a person reads it."""
        return f"{self.name} ({', '.join(f'{name} {value}' for name, value in self.setting.items())})"

    def fit(self, rows: LabelledRows, *, seed: int, negative_share: float) -> FittedModel:
        """Let it learn, for a fold."""
        return fit_estimator(self.name, rows, seed=seed, setting=self.setting, negative_share=negative_share)

    def fit_to_keep(self, rows: LabelledRows, *, seed: int, negative_share: float) -> FittedModel:
        """Let it learn at its full size."""
        return fit_estimator(
            self.name, rows, seed=seed, setting=kept_setting(self.setting), negative_share=negative_share
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRows:
    """What is learned from and what is judged on in one fold."""

    train: LabelledRows
    test: LabelledRows

    @property
    def usable(self) -> bool:
        """Whether both have both outcomes."""
        return all(0 < rows.labels.sum() < len(rows) for rows in (self.train, self.test))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """What one trial answered in one fold, and what that is worth."""

    scores: Floats
    labels: Floats
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """A trial in all folds."""

    trial: Trial
    folds: tuple[FoldResult, ...]

    @property
    def worth(self) -> Floats:
        """The metric of each fold."""
        return np.array([fold.metrics[METRIC] for fold in self.folds])

    @property
    def mean(self) -> float:
        """The metric, averaged over the folds."""
        return float(self.worth.mean())

    def calibration(self) -> Calibration | None:
        """What makes its scores probabilities, from the folds' rows, none of which it had learned from."""
        labels = np.concatenate([fold.labels for fold in self.folds])
        if labels.sum() < _FEWEST_POSITIVES:
            return None
        return fit_calibration(np.concatenate([fold.scores for fold in self.folds]), labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The best setting of each estimator, in the order of the estimators, and the winner with the reason."""

    trials: tuple[TrialResult, ...]
    best_of_each: tuple[TrialResult, ...]
    winner: TrialResult
    reason: str


def negative_share(rows: LabelledRows, most: int) -> float:
    """The share of the negative rows that are `most` of them, or all.

    Folds and the final fit take the same share: a calibration holds for a model that learned as the folds' did.
    """
    return min(1.0, most / max(1.0, float((rows.labels == 0).sum())))


def trials_of(names: Iterable[str]) -> tuple[Trial, ...]:
    """Every setting of the estimators with these names.

    Raises:
        TrainingError: if there is no such estimator.
    """
    return tuple(Trial(name=name, setting=setting) for name in names for setting in settings_of(name))


def try_out(
    trials: Sequence[Trial], rows: FoldRows, *, seed: int, negative_share: float, say: Say
) -> tuple[FoldResult, ...]:
    """Fit every trial to the fold's training rows and judge it on its test rows."""
    results = []
    for trial in trials:
        say(str(trial))
        scores = trial.fit(rows.train, seed=seed, negative_share=negative_share).score(rows.test.inputs)
        ordered = Ordered.by(scores, rows.test.labels)
        metrics = {
            METRIC: ordered.average_precision(),
            "roc_auc": ordered.roc_auc(),
            "rows": float(len(rows.test)),
            "positive_rows": float(rows.test.labels.sum()),
        }
        results.append(FoldResult(scores=scores, labels=rows.test.labels, metrics=metrics))
    return tuple(results)


def conclude_search(trials: Sequence[Trial], folds: Sequence[tuple[FoldResult, ...]]) -> Search:
    """Choose.

    Args:
        trials: simpler estimators first.
        folds: for each fold, a result for each trial.

    Raises:
        TrainingError: if there is no fold.
    """
    if not folds:
        raise TrainingError("no fold has both outcomes before and after its delay: nothing can be chosen")
    results = tuple(
        TrialResult(trial=trial, folds=of_trial)
        for trial, of_trial in zip(trials, zip(*folds, strict=True), strict=True)
    )
    names = list(dict.fromkeys(trial.name for trial in trials))
    # Among the settings of one estimator there is no simpler one: the first of equals.
    best_of_each = tuple(
        max((result for result in results if result.trial.name == name), key=lambda result: result.mean)
        for name in names
    )
    top = max(best_of_each, key=lambda result: result.mean)
    winner = next(result for result in best_of_each if top.mean - result.mean <= _noise(top, result))
    return Search(trials=results, best_of_each=best_of_each, winner=winner, reason=_reason(winner, top, len(folds)))


def _noise(one: TrialResult, other: TrialResult) -> float:
    """The standard error of the mean difference: both met the same folds, so what is hard for both cancels out."""
    differences = one.worth - other.worth
    if len(differences) == 1:
        return 0.0
    return float(differences.std(ddof=1) / math.sqrt(len(differences)))


def _reason(winner: TrialResult, top: TrialResult, folds: int) -> str:
    of_folds = f"over {folds} prequential fold{'s' if folds > 1 else ''}"
    if winner is top:
        return f"{winner.trial}: the best {METRIC} {of_folds}, {winner.mean:.4f} on average"
    return (
        f"{winner.trial}: simpler, and its {METRIC} of {winner.mean:.4f} {of_folds} is within what chance explains of"
        f" the {top.mean:.4f} of {top.trial}"
    )
