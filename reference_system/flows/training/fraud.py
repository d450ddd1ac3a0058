"""The fraud model in the training flow: its bundle, the rows that were served, its plots."""

from __future__ import annotations

from pathlib import Path

from reference_system.flows.training.case import BundleParts, CaseChecks, TrainingCase, no_checks
from reference_system.registry.bundles.bundle import Bundle, ReviewThresholds
from reference_system.training.evaluation.training_serving_skew import AsServed, served_pairs
from reference_system.training.fraud.case import (
    FRAUD_SELECTION,
    FraudCase,
    fraud_split,
    fresh_fraud_split,
    prepare_fraud,
    thresholds,
    usual_inputs,
)
from reference_system.training.fraud.matplotlib_plots import fraud_plots
from reference_system.training.point_in_time import Join
from reference_system.training.selection import Selection
from reference_system.training.temporal_split import TemporalSplit
from reference_system.use_cases.fraud.model import NAME


def _prepare(lake: Path, split: TemporalSplit, join: Join, _seed: int) -> FraudCase:
    return prepare_fraud(lake, split, join)


def _bundle_parts(case: FraudCase, selection: Selection) -> BundleParts:
    found = thresholds(case, selection)
    return BundleParts(
        thresholds=ReviewThresholds(review=found.review, block=found.block), usual=tuple(usual_inputs(case).tolist())
    )


def _served(lake: Path, case: FraudCase) -> tuple[AsServed, AsServed]:
    return (
        served_pairs(lake, NAME, case.split.test, case.evaluator.rows),
        served_pairs(lake, NAME, case.split.train, case.train),
    )


def _checks(_lake: Path, _case: FraudCase, _champion: Bundle | None) -> CaseChecks:
    return no_checks


def _plots(case: FraudCase, selection: Selection) -> dict[str, bytes]:
    return fraud_plots(selection, case.evaluator.rows)


CASE = TrainingCase(
    selection=FRAUD_SELECTION,
    split=fraud_split,
    fresh_split=fresh_fraud_split,
    prepare=_prepare,
    bundle_parts=_bundle_parts,
    served=_served,
    checks=_checks,
    plots=_plots,
)
