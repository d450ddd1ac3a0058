"""The ranker's training set: impressions, what was known when they were shown, whether they were watched.

In: the lake, a window, the point-in-time join. Out: labelled rows, a seeded sample of the impressions.
Invariant: the columns are `recommendation.features.INPUTS`, in that order, computed by the function that serving
calls; the position is the one where the video stood.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.training.labelled_rows import LabelledRows, canonical_order, require_both_classes
from reference_system.training.point_in_time import Join, joined
from reference_system.training.recommendation import duckdb_events
from reference_system.training.recommendation.video_tables import Videos
from reference_system.training.temporal_split import Span
from reference_system.use_cases.recommendation.features import (
    VIDEO_POPULARITY,
    VIEWER_ACTIVITY,
    ranker_inputs,
)


def impression_rows(  # noqa: PLR0913 - where from, which, how many, and what to call it
    lake: Path, videos: Videos, span: Span, join: Join, *, most: int, seed: int, what: str
) -> LabelledRows:
    """At most `most` impressions of a window, drawn at random.

    Args:
        lake: the lake's folder.
        videos: the catalogue; impressions of others are left out.
        span: the window.
        join: the point-in-time join.
        most: how many rows to take.
        seed: of the draw.
        what: the window's name in an error message.

    Raises:
        TrainingError: if the window has no impressions, one kind of outcome, or features that nobody computed.
    """
    shown = duckdb_events.impressions(lake, span)
    shown = shown.filter(videos.indices(shown["video_id"]) >= 0)
    if len(shown) > most:
        shown = shown.take(np.sort(np.random.default_rng(seed).choice(len(shown), most, replace=False)))
    labels = shown["label"].to_numpy()
    require_both_classes(labels, what, span)
    times = shown["time"].to_numpy()
    keys = {VIEWER_ACTIVITY: shown["viewer_id"], VIDEO_POPULARITY: shown["video_id"]}
    viewer, video = joined(join, keys, times, span)
    items = videos.indices(shown["video_id"])
    values = ranker_inputs(
        viewer=viewer,
        videos=video,
        categories=videos.categories[items],
        published=videos.published[items],
        durations=videos.durations[items],
        as_of=times,
        positions=shown["position"].to_numpy(),
    )
    inputs = values.astype(np.float32)
    order = canonical_order(times, inputs, labels)
    viewers = shown["viewer_id"].combine_chunks().take(pa.array(order)).dictionary_encode().indices
    return LabelledRows(
        inputs=inputs[order], labels=labels[order], groups=pc.cast(viewers, "int64").to_numpy(), times=times[order]
    )
