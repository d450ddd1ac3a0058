"""Parity of pages: how history makes the input rows that were logged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Floats, Ints
from reference_system.lake import delta_lake
from reference_system.proofs.parity.case import Assemble, ParityCase
from reference_system.proofs.parity.logged_rows import (
    LoggedRows,
    places_of,
    questions_of,
    values_at_places,
)
from reference_system.proofs.parity.questions import Questions
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.use_cases.recommendation.events import CATEGORIES, IMPRESSIONS, VIDEOS

VIEWS = (recommendation.VIEWER_ACTIVITY, recommendation.VIDEO_POPULARITY)


def page_questions(lake: Path, log: LoggedRows, _served: Floats) -> tuple[Questions, Questions, Assemble]:
    """The viewer's and the video's windows; a video unknown to the lake has no values."""
    known = delta_lake.read(lake, VIDEOS).read_all()
    found, place = places_of(log.of_lists("items", log.place), known["video_id"])
    categories = values_at_places(pc.index_in(known["category"], pa.array(CATEGORIES)), place)
    published = values_at_places(known["event_timestamp"].cast(pa.int64()), place)
    durations = np.where(found, values_at_places(known["duration_seconds"], place), np.nan)
    moments = log.times("event_timestamp")
    one, other = VIEWS
    viewer = questions_of(one, log, 0, log.times("created_timestamp"))
    video = questions_of(other, log, log.place + 1, log.times("catalogue_timestamp"))

    def assemble(of_viewer: Floats, of_video: Floats, rows: Ints) -> Floats:
        return recommendation.ranker_inputs(
            viewer=of_viewer,
            videos=of_video,
            categories=categories[rows].astype(np.int64),
            published=published[rows].astype(np.int64),
            durations=durations[rows],
            as_of=moments[rows],
            positions=np.full(len(rows), recommendation.SERVING_POSITION),
        )

    return viewer, video, assemble


CASE = ParityCase(event=IMPRESSIONS, views=VIEWS, by_item=True, questions=page_questions)
