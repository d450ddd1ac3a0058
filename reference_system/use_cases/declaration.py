"""What a use case declares: its topics, its features, and the figures that stages read by its name.

Each use case fills one `Declaration` in `use_cases/<name>/declaration.py`. No stage compares a use case's name: it
looks its figure up here, or its own file named after the use case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reference_system.events import Topic
from reference_system.use_case import UseCase
from reference_system.windows import View


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFigures:
    """What the gate holds a model of this use case to."""

    # The mean distance between score and share of positives above which a score is no probability.
    calibration_bound: float
    # Rows that one request scores, and the 99th percentile that scoring them may take, microseconds.
    rows_a_request: int
    latency_budget_micros: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CardTexts:
    """What each model card of the use case says; `reading` explains a figure that looks like a fault."""

    purpose: str
    limits: str
    reading: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One use case.

    `views` are what serving reads together, `dataset_views` the same for a dataset whose events differ from the live
    ones, under the name of its Feast service. `kept_topics` are never deleted by age. `breaker_seconds` is the CPU
    time that the model work of one request may take before a challenger is stopped: `workbook bench shadow` shows
    that ordinary models need a small part of it.
    """

    name: UseCase
    topics: tuple[Topic, ...]
    serving_topics: tuple[Topic, ...] = ()
    dataset_topics: tuple[Topic, ...] = ()
    kept_topics: tuple[Topic, ...] = ()
    views: tuple[View, ...]
    dataset_views: Mapping[str, tuple[View, ...]]
    inputs: tuple[str, ...]
    primary_metric: str
    gate: GateFigures
    breaker_seconds: float
    card: CardTexts
    # A bundle holds a catalogue of what can be recommended; thresholds and usual inputs of a decision.
    has_catalogue: bool = False
    has_thresholds: bool = False
