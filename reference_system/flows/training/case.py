"""What the training flow needs of a use case, and where it finds it: `flows/training/<use case>.py`, in `CASE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from reference_system.registry.bundles.bundle import Bundle, ReviewThresholds
from reference_system.registry.bundles.catalogue import BundleCatalogue
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.registry.gate.decision import GateCheck
from reference_system.training.evaluation.evaluation import Evaluator
from reference_system.training.evaluation.training_serving_skew import AsServed
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.point_in_time import Join
from reference_system.training.selection import Selection, SelectionSpec
from reference_system.training.temporal_split import TemporalSplit
from reference_system.use_case import UseCase, case_module

# What the gate looks at beyond what every use case has: challenger, champion if there is one, seed → checks.
CaseChecks = Callable[[OnnxScorer, OnnxScorer | None, int], list[GateCheck]]


def no_checks(_challenger: OnnxScorer, _champion: OnnxScorer | None, _seed: int) -> list[GateCheck]:
    """The use case has none."""
    return []


class PreparedCase(Protocol):
    """What a use case learns from as of a moment."""

    @property
    def split(self) -> TemporalSplit:
        """Where it learns and where it is evaluated."""
        ...

    @property
    def train(self) -> LabelledRows:
        """The rows to learn from."""
        ...

    @property
    def evaluator(self) -> Evaluator:
        """What decides."""
        ...

    @property
    def mature(self) -> Evaluator | None:
        """A second evaluator with labels that are all known, for a split whose own are not."""
        ...


PreparedT = TypeVar("PreparedT", bound=PreparedCase)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleParts:
    """What a bundle of the use case holds beside the model."""

    thresholds: ReviewThresholds | None = None
    usual: tuple[float, ...] | None = None
    catalogue: BundleCatalogue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCase(Generic[PreparedT]):
    """One use case, as the training flow sees it.

    `split` is that of a moment, `fresh_split` that of a moment and of where features end, after an alarm. `prepare`
    takes the lake, the split, the point-in-time join and a seed. `served` gives the rows of the evaluation and of the
    training as they were served. `checks` takes the lake, the case and the champion.
    """

    selection: SelectionSpec
    split: Callable[[datetime], TemporalSplit]
    fresh_split: Callable[[datetime, datetime], TemporalSplit]
    prepare: Callable[[Path, TemporalSplit, Join, int], PreparedT]
    bundle_parts: Callable[[PreparedT, Selection], BundleParts]
    served: Callable[[Path, PreparedT], tuple[AsServed, AsServed]]
    checks: Callable[[Path, PreparedT, Bundle | None], CaseChecks]
    plots: Callable[[PreparedT, Selection], dict[str, bytes]]


def training_case(use_case: UseCase) -> TrainingCase[Any]:
    """What the training flow needs of the use case.

    Raises:
        WorkbookError: if there is no such use case.
    """
    case: TrainingCase[Any] = case_module(__package__, use_case).CASE
    return case
