"""From training's terms to the registry's: what a trained use case leaves behind, written as a bundle and as a run.

In: a prepared case. Out: `Trained`; its bundle; its record for MLflow.
Invariant: the two use cases differ here in what their bundles hold and in their plots, and in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from reference_system.registry.bundles import (
    Catalogue,
    DataWindow,
    Golden,
    Manifest,
    ReviewThresholds,
    UseCase,
    version_folder,
    write_bundle,
)
from reference_system.registry.mlflow_registry import LoggedCandidate, LoggedTraining
from reference_system.registry.onnx_scorer import OnnxScorer
from reference_system.training import fraud_case, matplotlib_plots, recommendation_case
from reference_system.training.fraud_case import FraudCase
from reference_system.training.point_in_time import Join
from reference_system.training.recommendation_case import RecommendationCase
from reference_system.training.selection import Contest, Selection, require_parity, select
from reference_system.training.temporal_split import TemporalSplit
from reference_system.training.video_tables import VideoTables

Case = FraudCase | RecommendationCase
# Rows of the test window that a bundle carries and that serving scores before it trusts the bundle.
_GOLDEN_ROWS = 64
_EXAMPLE_ROWS = 3
_MOST_DIFFERENCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A use case with its judged candidates and the best of them as ONNX; `difference` is between the two forms."""

    use_case: UseCase
    case: Case
    contest: Contest
    selection: Selection
    model: bytes
    difference: float

    @property
    def metrics(self) -> dict[str, float]:
        """What the best model is worth on the test window."""
        return self.selection.best.judgement.metrics


def split_of(use_case: UseCase, as_of: datetime) -> TemporalSplit:
    """Where a use case learns and is judged as of a moment."""
    return fraud_case.fraud_split(as_of) if use_case == "fraud" else recommendation_case.recommendation_split(as_of)


def contest_of(use_case: UseCase) -> Contest:
    """What a use case's `model.py` says about its candidates."""
    return fraud_case.CONTEST if use_case == "fraud" else recommendation_case.CONTEST


def prepare(use_case: UseCase, lake: Path, as_of: datetime, join: Join, *, seed: int) -> Case:
    """Read what a use case learns from."""
    if use_case == "fraud":
        return fraud_case.prepare_fraud(lake, as_of, join)
    return recommendation_case.prepare_recommendation(lake, as_of, join, seed=seed)


def train_case(use_case: UseCase, case: Case, *, seed: int) -> Trained:
    """Fit, judge, choose and export.

    Raises:
        TrainingError: if nothing can be chosen, or the export is not the model that was chosen.
    """
    contest = contest_of(use_case)
    selection = select(contest, case.train, case.judge, seed=seed)
    model = selection.best.model.to_onnx(len(contest.inputs))
    served = OnnxScorer(model).score
    difference = require_parity(selection.best.model, served, case.judge.rows.inputs, most=_MOST_DIFFERENCE)
    return Trained(
        use_case=use_case, case=case, contest=contest, selection=selection, model=model, difference=difference
    )


def write_trained(trained: Trained, version: str, root: Path) -> Path:
    """Write the bundle of a registered version; returns its folder."""
    case, rows = trained.case, trained.case.judge.rows.inputs
    some = rows[np.linspace(0, len(rows) - 1, _GOLDEN_ROWS).astype(int)]
    thresholds, usual, catalogue = None, None, None
    if isinstance(case, FraudCase):
        found = fraud_case.thresholds(case, trained.selection)
        thresholds = ReviewThresholds(review=found.review, block=found.block)
        usual = tuple(fraud_case.usual_inputs(case).tolist())
    else:
        catalogue = _catalogue(case.tables)
    manifest = Manifest(
        use_case=trained.use_case,
        model_version=version,
        estimator=trained.selection.best.model.name,
        inputs=tuple(trained.contest.inputs),
        created_timestamp=case.split.as_of,
        data_window=DataWindow(start=case.split.train.start, end=case.split.train.end),
        metrics=trained.metrics,
        files={},
        thresholds=thresholds,
        usual=usual,
    )
    golden = Golden(inputs=some, scores=OnnxScorer(trained.model).score(some).astype(np.float32))
    folder = version_folder(root, trained.use_case, version)
    return write_bundle(folder, manifest, model=trained.model, golden=golden, catalogue=catalogue)


def logged_training(trained: Trained, *, commit: str | None) -> LoggedTraining:
    """What MLflow is told."""
    case, best = trained.case, trained.selection.best
    split = case.split
    parameters: dict[str, float | int | str] = {
        "estimator": best.model.name,
        "train_start": split.train.start.isoformat(),
        "train_end": split.train.end.isoformat(),
        "test_start": split.test.start.isoformat(),
        "test_end": split.test.end.isoformat(),
        "as_of": split.as_of.isoformat(),
        "train_rows": len(case.train),
        "train_positives": int(case.train.labels.sum()),
        "test_rows": len(case.judge.rows),
        "test_positives": int(case.judge.rows.labels.sum()),
        "dataset_digest": case.train.digest(),
        "test_digest": case.judge.rows.digest(),
    }
    metrics = dict(trained.metrics) | {"onnx_largest_difference": trained.difference}
    for name, judgement in trained.selection.baselines.items():
        metrics |= {f"baseline.{name}.{metric}": value for metric, value in judgement.metrics.items()}
    return LoggedTraining(
        use_case=trained.use_case,
        name=f"{best.model.name} as of {split.as_of:%Y-%m-%d %H:%M}",
        parameters={**parameters, **{f"model.{name}": value for name, value in best.model.parameters.items()}},
        metrics=metrics,
        tags={"primary_metric": trained.contest.primary_metric, **({"commit": commit} if commit else {})},
        candidates=[
            LoggedCandidate(
                name=candidate.model.name,
                parameters=candidate.model.parameters,
                metrics=candidate.judgement.metrics,
            )
            for candidate in trained.selection.candidates
        ],
        plots=_plots(trained),
        model=trained.model,
        inputs=trained.contest.inputs,
        example=case.judge.rows.inputs[:_EXAMPLE_ROWS],
    )


def _plots(trained: Trained) -> dict[str, bytes]:
    test = trained.case.judge.rows
    if isinstance(trained.case, FraudCase):
        return matplotlib_plots.fraud_plots(trained.selection, test)
    positions = test.inputs[:, list(trained.contest.inputs).index("position")].astype(np.float64)
    return matplotlib_plots.recommendation_plots(trained.selection, test, positions)


def _catalogue(tables: VideoTables) -> Catalogue:
    return Catalogue(
        video_ids=tables.videos.ids,
        categories=tables.videos.categories,
        durations=tables.videos.durations,
        published=tables.videos.published,
        neighbour_items=tables.neighbours.items,
        neighbour_similarities=tables.neighbours.similarities,
        popular=tables.popular,
    )
