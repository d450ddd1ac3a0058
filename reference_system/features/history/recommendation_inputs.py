"""The features of ratings at every rating of a dataset."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reference_system.features.history.model_inputs import columns_of, events_in_order
from reference_system.use_cases.recommendation.events import RATINGS
from reference_system.use_cases.recommendation.features import RATING_VIEWS


def rating_inputs(lake: Path, order: Path) -> pa.Table:
    """`rating_id`, who, what, when, and the features of `RATING_VIEWS` at every rating; the arguments are the same."""
    ratings = events_in_order(lake, RATINGS, order)
    columns = {name: ratings[name] for name in ("rating_id", "viewer_id", "video_id", "event_timestamp")}
    for view in RATING_VIEWS:
        columns.update(columns_of(view, lake, ratings))
    return pa.table(columns)
