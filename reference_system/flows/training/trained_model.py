"""From training's terms to the registry's: what a trained use case leaves behind, written as a bundle.

In: a prepared case. Out: `Trained`, and its bundle.
Invariant: the two use cases differ here in how they are split, in who judges them and in what their bundles hold, and
in nothing else.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Literal, get_args

import numpy as np

from reference_system.errors import TrainingError
from reference_system.registry.bundles.bundle import (
    BundleManifest,
    DataWindow,
    Golden,
    ReviewThresholds,
    version_folder,
    write_bundle,
)
from reference_system.registry.bundles.catalogue import BundleCatalogue
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.training.evaluation.evaluation import Evaluator
from reference_system.training.fraud import case as fraud_case
from reference_system.training.fraud.case import FraudCase
from reference_system.training.point_in_time import Join
from reference_system.training.recommendation import case as recommendation_case
from reference_system.training.recommendation.case import RecommendationCase
from reference_system.training.recommendation.video_tables import VideoTables
from reference_system.training.selection import Selection, SelectionSpec, require_parity, select
from reference_system.training.temporal_split import TemporalSplit, fresh_split
from reference_system.use_case import UseCase, require_use_case
from reference_system.use_cases.recommendation.labels import ATTRIBUTION

PreparedCase = FraudCase | RecommendationCase
# Why a model is trained; after an alarm it is trained on what is new.
TrainingTrigger = Literal["asked", "schedule", "drift", "performance"]
FRESH: tuple[TrainingTrigger, ...] = ("drift", "performance")
# A fresh ranker: a shorter window that ends later. Its labels are mature after a day, so it needs no held-out viewers.
_FRESH_TRAIN_DAYS, _FRESH_TEST_DAYS = 10, 1
# Rows of the test window that a bundle carries and that serving scores before it trusts the bundle.
_GOLDEN_ROWS = 64
_MOST_DIFFERENCE = 1e-6
_MEGABYTE = 1024 * 1024
# Linux tells the peak in kilobytes, macOS in bytes.
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What fitting, judging and exporting took; `peak_mb` is the process's largest resident size so far."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A use case with its judged candidates and the best of them as ONNX; `difference` is between the two forms."""

    use_case: UseCase
    trigger: TrainingTrigger
    case: PreparedCase
    spec: SelectionSpec
    selection: Selection
    model: bytes
    difference: float
    cost: Cost

    @property
    def metrics(self) -> dict[str, float]:
        """What the best model is worth on the test window."""
        return self.selection.best.evaluation.metrics


def trigger_named(name: str) -> TrainingTrigger:
    """The trigger with that name.

    Raises:
        TrainingError: if there is none.
    """
    for trigger in get_args(TrainingTrigger):
        if trigger == name:
            found: TrainingTrigger = trigger
            return found
    raise TrainingError(f"there is no trigger {name!r} (there are {', '.join(get_args(TrainingTrigger))})")


def split_of(
    use_case: UseCase, as_of: datetime, *, trigger: TrainingTrigger = "asked", until: datetime | None = None
) -> TemporalSplit:
    """Where a use case learns and is judged as of a moment; `until` is where features end, for fresh splits."""
    is_fraud = require_use_case(use_case) == "fraud"
    if trigger not in FRESH:
        return fraud_case.fraud_split(as_of) if is_fraud else recommendation_case.recommendation_split(as_of)
    until = until or as_of
    if is_fraud:
        return fraud_case.fresh_fraud_split(as_of, until)
    return fresh_split(
        as_of, until=until, train_days=_FRESH_TRAIN_DAYS, test_days=_FRESH_TEST_DAYS, maturity=ATTRIBUTION
    )


def selection_spec_of(use_case: UseCase, trigger: TrainingTrigger = "asked") -> SelectionSpec:
    """What a use case's `model.py` says about its candidates.

    After an alarm the recent window chooses: folds that wait for labels end before what is new began, and would
    choose whoever is best at what was.
    """
    spec = (
        fraud_case.FRAUD_SELECTION if require_use_case(use_case) == "fraud" else recommendation_case.RANKER_SELECTION
    )
    return replace(spec, validation=None) if trigger in FRESH else spec


def prepare_case(use_case: UseCase, lake: Path, split: TemporalSplit, join: Join, *, seed: int) -> PreparedCase:
    """Read what a use case learns from.

    Raises:
        TrainingError: if a window cannot be used, or there is no such use case.
    """
    if require_use_case(use_case) == "fraud":
        return fraud_case.prepare_fraud(lake, split, join)
    return recommendation_case.prepare_recommendation(lake, split, join, seed=seed)


def evaluators_of(case: PreparedCase) -> dict[str, Evaluator]:
    """Who judges, by the name of the window: the first decides, the others may object."""
    found: dict[str, Evaluator] = {"recent" if case.split.is_fresh else "test": case.evaluator}
    if isinstance(case, FraudCase) and case.mature is not None:
        found["mature"] = case.mature
    return found


def train_case(
    use_case: UseCase,
    case: PreparedCase,
    *,
    seed: int,
    trigger: TrainingTrigger = "asked",
    spec: SelectionSpec | None = None,
) -> Trained:
    """Fit, evaluate, choose and export; the selection spec is the use case's own unless another is given.

    Raises:
        TrainingError: if nothing can be chosen, or the export is not the model that was chosen.
    """
    began, cpu = perf_counter(), process_time()
    spec = spec or selection_spec_of(use_case, trigger)
    selection = select(spec, case.train, case.evaluator, seed=seed)
    model = selection.best.model.to_onnx(len(spec.inputs))
    served = OnnxScorer(model).score
    difference = require_parity(selection.best.model, served, case.evaluator.rows.inputs, most=_MOST_DIFFERENCE)
    return Trained(
        use_case=use_case,
        trigger=trigger,
        case=case,
        spec=spec,
        selection=selection,
        model=model,
        difference=difference,
        cost=Cost(
            seconds=perf_counter() - began,
            cpu_seconds=process_time() - cpu,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT / _MEGABYTE,
        ),
    )


def write_trained(trained: Trained, version: str, root: Path) -> Path:
    """Write the bundle of a registered version; returns its folder."""
    case, rows = trained.case, trained.case.evaluator.rows.inputs
    some = rows[np.linspace(0, len(rows) - 1, _GOLDEN_ROWS).astype(int)]
    thresholds, usual, catalogue = None, None, None
    if isinstance(case, FraudCase):
        found = fraud_case.thresholds(case, trained.selection)
        thresholds = ReviewThresholds(review=found.review, block=found.block)
        usual = tuple(fraud_case.usual_inputs(case).tolist())
    else:
        catalogue = _catalogue(case.tables)
    manifest = BundleManifest(
        use_case=trained.use_case,
        model_version=version,
        estimator=trained.selection.best.model.name,
        inputs=tuple(trained.spec.inputs),
        created_timestamp=case.split.as_of,
        data_window=DataWindow(start=case.split.train.start, end=case.split.train.end),
        metrics=trained.metrics,
        files={},
        thresholds=thresholds,
        usual=usual,
        data_digest=case.train.digest(),
        trigger=trained.trigger,
    )
    golden = Golden(inputs=some, scores=OnnxScorer(trained.model).score(some).astype(np.float32))
    folder = version_folder(root, trained.use_case, version)
    return write_bundle(folder, manifest, model=trained.model, golden=golden, catalogue=catalogue)


def _catalogue(tables: VideoTables) -> BundleCatalogue:
    return BundleCatalogue(
        video_ids=tables.videos.ids,
        categories=tables.videos.categories,
        durations=tables.videos.durations,
        published=tables.videos.published,
        neighbour_items=tables.neighbours.items,
        neighbour_similarities=tables.neighbours.similarities,
        factors=tables.vectors,
        popular=tables.popular,
    )
