"""The declaration of the fraud score."""

from __future__ import annotations

from reference_system.use_cases.declaration import CardTexts, Declaration, GateFigures
from reference_system.use_cases.fraud.events import TOPICS
from reference_system.use_cases.fraud.features import INPUTS, VIEWS
from reference_system.use_cases.fraud.model import PRIMARY_METRIC

DECLARATION = Declaration(
    name="fraud",
    topics=TOPICS,
    views=VIEWS,
    dataset_views={},
    inputs=INPUTS,
    primary_metric=PRIMARY_METRIC,
    gate=GateFigures(calibration_bound=0.03, rows_a_request=1, latency_budget_micros=1_000.0),
    breaker_seconds=0.002,
    card=CardTexts(
        purpose=(
            "Scores a card payment at the moment it is made: the probability that its holder will dispute it."
            " The policy turns the score into approve, review or block."
        ),
        limits=(
            "The payments are simulated. Reports of fraud come up to a week late, so it cannot know what began since"
            " its training window ended. It was not judged on other currencies, merchants or countries, and it must"
            " not be the only reason to refuse a customer anything else."
        ),
    ),
    has_thresholds=True,
)
