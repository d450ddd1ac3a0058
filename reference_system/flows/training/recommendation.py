"""The ranker in the training flow: its bundle, the pages that were served, the worth of its pages, its plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reference_system.errors import TrainingError
from reference_system.feedback.duckdb_recommendation_labels import page_outcomes
from reference_system.flows.training.case import BundleParts, CaseChecks, TrainingCase
from reference_system.monitoring.recommendation.page_worth import (
    PerPage,
    PolicyWorth,
    seen_pages,
    worth_of_policies,
)
from reference_system.registry.bundles.bundle import Bundle
from reference_system.registry.bundles.catalogue import BundleCatalogue
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.registry.gate import checks as gate_checks
from reference_system.registry.gate.decision import GateCheck
from reference_system.training.evaluation.training_serving_skew import NOTHING_SERVED, AsServed, served_sample
from reference_system.training.point_in_time import Join
from reference_system.training.recommendation.case import (
    RANKER_SELECTION,
    RecommendationCase,
    fresh_recommendation_split,
    prepare_recommendation,
    recommendation_split,
)
from reference_system.training.recommendation.matplotlib_plots import recommendation_plots
from reference_system.training.recommendation.off_policy import (
    OffPolicyEstimate,
    difference,
    estimate_off_policy,
)
from reference_system.training.selection import Selection
from reference_system.training.temporal_split import TemporalSplit
from reference_system.use_cases.recommendation.model import NAME


def _prepare(lake: Path, split: TemporalSplit, join: Join, seed: int) -> RecommendationCase:
    return prepare_recommendation(lake, split, join, seed=seed)


def _bundle_parts(case: RecommendationCase, _selection: Selection) -> BundleParts:
    tables = case.tables
    return BundleParts(
        catalogue=BundleCatalogue(
            video_ids=tables.videos.ids,
            categories=tables.videos.categories,
            durations=tables.videos.durations,
            published=tables.videos.published,
            neighbour_items=tables.neighbours.items,
            neighbour_similarities=tables.neighbours.similarities,
            factors=tables.vectors,
            popular=tables.popular,
        )
    )


def _served(lake: Path, case: RecommendationCase) -> tuple[AsServed, AsServed]:
    rows = np.concatenate([page.inputs for page in case.evaluator.cases])
    return served_sample(lake, NAME, case.split.test, rows), NOTHING_SERVED


def _checks(lake: Path, case: RecommendationCase, champion: Bundle | None) -> CaseChecks:
    served = _served_worth(lake, case, champion)

    def of(challenger: OnnxScorer, champion: OnnxScorer | None, seed: int) -> list[GateCheck]:
        return [_worth_check(case, challenger, champion, served, seed=seed)]

    return of


def _served_worth(lake: Path, case: RecommendationCase, champion: Bundle | None) -> PolicyWorth | None:
    """What pages of the test window brought that the champion chose; `None` if it chose none."""
    if champion is None:
        return None
    test, version = case.split.test, champion.manifest.model_version
    outcomes = page_outcomes(lake, test.start, test.end, as_of=case.split.as_of)
    return next((row for row in worth_of_policies(seen_pages(outcomes)) if row.policy == version), None)


def _worth_check(
    case: RecommendationCase,
    challenger: OnnxScorer,
    champion: OnnxScorer | None,
    served: PolicyWorth | None,
    *,
    seed: int,
) -> GateCheck:
    """Off-policy for both, on the same pages; both know of the videos what was known when the window began."""
    try:
        ours = case.logged.beside(challenger.score)
        found = estimate_off_policy(ours, seed=seed)
        theirs = None if champion is None else case.logged.beside(champion.score)
        worth = gate_checks.PageWorth(
            pages=found.pages,
            challenger=_bounds(found.doubly_robust),
            by_chance=_bounds(found.logged),
            champion=None if theirs is None else _bounds(estimate_off_policy(theirs, seed=seed).doubly_robust),
            difference=None if theirs is None else _bounds(difference(ours, theirs, seed=seed)),
            served=None if served is None or served.watches is None else _bounds(served.watches),
        )
    except TrainingError as error:
        return gate_checks.page_worth_check(None, why_not=str(error))
    return gate_checks.page_worth_check(worth)


def _bounds(found: OffPolicyEstimate | PerPage) -> gate_checks.Bounds:
    return found.low, found.value, found.high


def _plots(case: RecommendationCase, selection: Selection) -> dict[str, bytes]:
    test = case.evaluator.rows
    positions = test.inputs[:, list(RANKER_SELECTION.inputs).index("position")].astype(np.float64)
    return recommendation_plots(selection, test, positions)


CASE = TrainingCase(
    selection=RANKER_SELECTION,
    split=recommendation_split,
    fresh_split=fresh_recommendation_split,
    prepare=_prepare,
    bundle_parts=_bundle_parts,
    served=_served,
    checks=_checks,
    plots=_plots,
)
