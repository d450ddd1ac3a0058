"""From training's terms to the registry's: what a trained use case leaves behind, written as a bundle.

In: a prepared case. Out: `Trained`, and its bundle.
Invariant: use cases differ here only in what `flows/training/<use case>.py` says.
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
from reference_system.flows.training.case import BundleParts, PreparedCase, training_case
from reference_system.registry.bundles.bundle import (
    BundleManifest,
    DataWindow,
    Golden,
    version_folder,
    write_bundle,
)
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.training.evaluation.evaluation import Evaluator
from reference_system.training.point_in_time import Join
from reference_system.training.selection import Selection, SelectionSpec, require_parity, select
from reference_system.training.temporal_split import TemporalSplit
from reference_system.use_case import UseCase

# Why a model is trained; after an alarm it is trained on what is new.
TrainingTrigger = Literal["asked", "schedule", "drift", "performance"]
FRESH: tuple[TrainingTrigger, ...] = ("drift", "performance")
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
    case = training_case(use_case)
    return case.split(as_of) if trigger not in FRESH else case.fresh_split(as_of, until or as_of)


def selection_spec_of(use_case: UseCase, trigger: TrainingTrigger = "asked") -> SelectionSpec:
    """What a use case's `model.py` says about its candidates.

    After an alarm the recent window chooses: folds that wait for labels end before what is new began, and would
    choose whoever is best at what was.
    """
    spec = training_case(use_case).selection
    return replace(spec, validation=None) if trigger in FRESH else spec


def prepare_case(use_case: UseCase, lake: Path, split: TemporalSplit, join: Join, *, seed: int) -> PreparedCase:
    """Read what a use case learns from.

    Raises:
        TrainingError: if a window cannot be used, or there is no such use case.
    """
    case: PreparedCase = training_case(use_case).prepare(lake, split, join, seed)
    return case


def evaluators_of(case: PreparedCase) -> dict[str, Evaluator]:
    """Who judges, by the name of the window: the first decides, the others may object."""
    found: dict[str, Evaluator] = {"recent" if case.split.is_fresh else "test": case.evaluator}
    if case.mature is not None:
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
    parts: BundleParts = training_case(trained.use_case).bundle_parts(case, trained.selection)
    manifest = BundleManifest(
        use_case=trained.use_case,
        model_version=version,
        estimator=trained.selection.best.model.name,
        inputs=tuple(trained.spec.inputs),
        created_timestamp=case.split.as_of,
        data_window=DataWindow(start=case.split.train.start, end=case.split.train.end),
        metrics=trained.metrics,
        files={},
        thresholds=parts.thresholds,
        usual=parts.usual,
        data_digest=case.train.digest(),
        trigger=trained.trigger,
    )
    golden = Golden(inputs=some, scores=OnnxScorer(trained.model).score(some).astype(np.float32))
    folder = version_folder(root, trained.use_case, version)
    return write_bundle(folder, manifest, model=trained.model, golden=golden, catalogue=parts.catalogue)
