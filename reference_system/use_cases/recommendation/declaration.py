"""The declaration of the video recommender."""

from __future__ import annotations

from reference_system.use_cases.declaration import CardTexts, Declaration, GateFigures
from reference_system.use_cases.recommendation.events import EXPOSURES, RATINGS, TOPICS, VIDEOS
from reference_system.use_cases.recommendation.features import INPUTS, RATING_VIEWS, VIEWS
from reference_system.use_cases.recommendation.model import PRIMARY_METRIC

DECLARATION = Declaration(
    name="recommendation",
    topics=TOPICS,
    serving_topics=(EXPOSURES,),
    dataset_topics=(RATINGS,),
    # A video lives as long as the catalogue, and ratings are looked back on for a year; both tables are small.
    kept_topics=(VIDEOS, RATINGS),
    views=VIEWS,
    dataset_views={"ratings": RATING_VIEWS},
    inputs=INPUTS,
    primary_metric=PRIMARY_METRIC,
    # The watch rate of a page is fifty times the fraud rate.
    gate=GateFigures(calibration_bound=0.1, rows_a_request=300, latency_budget_micros=20_000.0),
    breaker_seconds=0.02,
    card=CardTexts(
        purpose=(
            "Orders candidate videos for a viewer by the probability that at least half of each is watched within a"
            " day."
        ),
        limits=(
            "The viewers are simulated. Watches of videos that were never shown are unknown; the metrics weigh by how"
            " rarely a video was shown, which helps only as far as pages were drawn by chance."
        ),
        reading=(
            "ndcg@10 is small for every ranker: it asks for the very videos that a viewer watched later on pages drawn"
            " by chance, a few of thousands, so read it as a ratio to the others'. What a page of it brings is the"
            ' check "worth of a page", and, once it has answered, in `workbook timeline recommendation`.'
        ),
    ),
    has_catalogue=True,
)
