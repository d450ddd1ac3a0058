"""Replay of ratings: the features of a dataset's rating views."""

from __future__ import annotations

from collections.abc import Sequence

from reference_system.event_time import micros
from reference_system.events import Event
from reference_system.features.history.recommendation_inputs import rating_inputs
from reference_system.proofs.replay.case import ReplayCase
from reference_system.serving.feature_reads import ReadStates
from reference_system.use_cases.recommendation.events import RATINGS
from reference_system.use_cases.recommendation.features import RATING_VIEWS
from reference_system.windows import evaluate_state


def _rating(event: Event, read: ReadStates) -> Sequence[float]:
    found = read(RATING_VIEWS, [getattr(event, view.entity) for view in RATING_VIEWS])
    moment = micros(event.event_timestamp)
    return [
        value
        for view, (state, _) in zip(RATING_VIEWS, found, strict=True)
        for value in evaluate_state(view, state, moment)
    ]


CASE = ReplayCase(
    asking=RATINGS,
    views=RATING_VIEWS,
    names=tuple(name for view in RATING_VIEWS for name in view.features),
    serve=_rating,
    history=rating_inputs,
)
