"""A page of videos: states → candidates → ranker → rules of the page.

In: a viewer, a catalogue in memory, a reader of states. Out: the page with scores, sources and the model's inputs.
Invariant: at most `CANDIDATE_COUNT` videos are ranked; a viewer that nobody knows gets newest and popular videos; a
state that cannot be read gives the bundle's popular videos, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np

from reference_system.arrays import Floats
from reference_system.event_time import MICROS_PER_SECOND, micros
from reference_system.events import PredictionLogged
from reference_system.serving.api import (
    AnswerIdentity,
    RecommendationAnswer,
    RecommendationRequest,
    RecommendedVideo,
)
from reference_system.serving.feature_reads import FeaturesUnavailable, ReadStates
from reference_system.serving.recommendation.catalogue import ServedCatalogue
from reference_system.use_cases.recommendation.features import (
    SERVING_POSITION,
    VIEWER_ACTIVITY,
    VIEWER_RECENT,
    ranker_inputs,
)
from reference_system.use_cases.recommendation.model import generate_candidates
from reference_system.use_cases.recommendation.policy import compose_page, explore
from reference_system.windows import evaluate, unpack_tail

_RECENT_ITEMS = msgspec.msgpack.Decoder(list[tuple[int, str]])


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedPage:
    """What came out for one viewer; `inputs` has one row for each item, or is `None` where a rule decided."""

    items: tuple[RecommendedVideo, ...]
    inputs: Floats | None
    state_times: tuple[int | None, ...]  # of the viewer's state and of each item's, microseconds
    catalogue_timestamp: datetime | None
    feature_age_seconds: float | None


def compose(  # noqa: PLR0913 - who asks, for what, when, and what answers
    viewer_id: str,
    k: int,
    moment: datetime,
    catalogue: ServedCatalogue,
    read: ReadStates,
    *,
    draw: float | None = None,
) -> RankedPage:
    """The page of one viewer at `moment`.

    With `draw`, a number in [0, 1), the last place is left to chance; without, every place is certain.
    """
    if catalogue.tails is None:
        return _popular(k, catalogue)
    try:
        ((activity, time),) = read(VIEWER_ACTIVITY, (viewer_id,))
        ((recent, _),) = read(VIEWER_RECENT, (viewer_id,))
        tail = unpack_tail(VIEWER_ACTIVITY, activity)
        items = _RECENT_ITEMS.decode(recent) if recent else []
    except (FeaturesUnavailable, ValueError):  # ValueError: bytes that are no such state
        return _popular(k, catalogue)
    as_of = micros(moment)
    watched = [catalogue.index[video_id] for _, video_id in items if video_id in catalogue.index]
    features, popular = catalogue.features_at(as_of)
    sources = generate_candidates(
        watched, catalogue.model.neighbours, catalogue.model.vectors, popular, catalogue.newest
    )
    candidates = np.fromiter(sources, np.int64, len(sources))
    count = len(candidates)
    viewer = evaluate(VIEWER_ACTIVITY, tail, as_of)
    inputs = ranker_inputs(
        viewer=np.broadcast_to(viewer, (count, len(viewer))),
        videos=features[candidates],
        categories=catalogue.categories[candidates],
        published=catalogue.published[candidates],
        durations=catalogue.durations[candidates],
        as_of=np.full(count, as_of),
        positions=np.full(count, SERVING_POSITION),
    )
    scores = catalogue.model.scorer(inputs.astype(np.float32))
    ranked = candidates[np.argsort(-scores, kind="stable")].tolist()
    page = compose_page(ranked, catalogue.category_list, set(watched), k=k)
    propensities = [1.0] * len(page)
    if draw is not None:
        page, propensities = explore(page, ranked, catalogue.category_list, set(watched), k=k, draw=draw)
    place = {item: row for row, item in enumerate(sources)}
    rows = [place[item] for item in page]
    return RankedPage(
        items=tuple(
            RecommendedVideo(
                video_id=catalogue.video_ids[item],
                score=score,
                source=sources[item],  # type: ignore[arg-type]  # the candidates' sources are the API's
                propensity=propensity,
            )
            for item, score, propensity in zip(page, scores[rows].tolist(), propensities, strict=True)
        ),
        inputs=inputs[rows],
        state_times=(time, *(catalogue.state_times[item] for item in page)),
        catalogue_timestamp=catalogue.read_at,
        feature_age_seconds=None if time is None else max(as_of - time, 0) / MICROS_PER_SECOND,
    )


def is_page(page: RankedPage) -> bool:
    """Whether a model's page is one: with videos, and with scores in [0, 1] where it has any."""
    return bool(page.items) and all(item.score is None or 0.0 <= item.score <= 1.0 for item in page.items)


def page_answer(request: RecommendationRequest, page: RankedPage, evaluation: AnswerIdentity) -> RecommendationAnswer:
    """What the client reads."""
    return RecommendationAnswer(
        prediction_id=evaluation.prediction_id,
        viewer_id=request.viewer_id,
        items=page.items,
        model_version=evaluation.model_version,
        feature_age_seconds=page.feature_age_seconds,
        degraded=page.inputs is None,
        event_timestamp=evaluation.moment,
        created_timestamp=evaluation.now,
    )


def page_record(answer: RecommendationAnswer, page: RankedPage, *, latency_ms: float) -> PredictionLogged:
    """What the prediction log keeps: the model's inputs of the videos that are on the page."""
    return PredictionLogged(
        schema_version=1,
        event_timestamp=answer.event_timestamp,
        created_timestamp=answer.created_timestamp,
        prediction_id=answer.prediction_id,
        use_case="recommendation",
        request_id=answer.prediction_id,
        entity_id=answer.viewer_id,
        model_version=answer.model_version,
        items=[item.video_id for item in page.items],
        scores=[item.score for item in page.items if item.score is not None],
        decision="page",
        reasons=[],
        features=[] if page.inputs is None else page.inputs.ravel().tolist(),
        entity_keys=[answer.viewer_id, *(item.video_id for item in page.items)],
        state_micros=list(page.state_times),
        catalogue_timestamp=page.catalogue_timestamp,
        feature_age_seconds=page.feature_age_seconds,
        degraded=answer.degraded,
        latency_ms=latency_ms,
    )


def _popular(k: int, catalogue: ServedCatalogue) -> RankedPage:
    items = catalogue.model.popular[:k]
    return RankedPage(
        items=tuple(
            RecommendedVideo(video_id=catalogue.video_ids[item], score=None, source="popular") for item in items
        ),
        inputs=None,
        state_times=(None,) * (1 + len(items)),
        catalogue_timestamp=None,
        feature_age_seconds=None,
    )
