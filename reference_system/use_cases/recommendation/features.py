"""Features of viewers and videos, and the ranker's inputs.

Viewers are quiet: their windows are exact. Videos are busy: their rows are kept in tiles of six hours, so that the
most popular video costs as little as any other and an event counts from the end of its tile on.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.event_time import MICROS_PER_DAY
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.windows import Is, LatestFields, RecentItems, Rows, WindowedView, ratio, total

RATING_WINDOW_DAYS = (30, 365)

VIEWER_ACTIVITY = WindowedView(
    name="viewer_activity",
    entity="viewer_id",
    rows=(
        Rows(
            topic="watches",
            entity="viewer_id",
            values=(
                ("watches", 1.0),
                ("completion", "completion"),
                *((category, Is("category", category)) for category in CATEGORIES),
            ),
        ),
    ),
    windows=(
        *(total(f"viewer_watch_count_{d}d", "watches", days=d) for d in (1, 7, 30)),
        ratio("viewer_mean_completion_30d", "completion", "watches", days=30),
        *(ratio(f"viewer_share_{category}_30d", category, "watches", days=30) for category in CATEGORIES),
    ),
    asked_by=Rows(topic="impressions", entity="viewer_id", values=()),
)

VIDEO_POPULARITY = WindowedView(
    name="video_popularity",
    entity="video_id",
    rows=(
        Rows(
            topic="watches",
            entity="video_id",
            values=(("watches", 1.0), ("completion", "completion"), ("impressions", 0.0)),
        ),
        Rows(
            topic="impressions",
            entity="video_ids",
            explode=True,
            values=(("watches", 0.0), ("completion", 0.0), ("impressions", 1.0)),
        ),
    ),
    windows=(
        *(total(f"video_watch_count_{d}d", "watches", days=d) for d in (1, 7, 30)),
        *(total(f"video_impression_count_{d}d", "impressions", days=d) for d in (1, 7)),
        ratio("video_watch_rate_7d", "watches", "impressions", days=7),
        ratio("video_mean_completion_30d", "completion", "watches", days=30),
    ),
    tile=timedelta(hours=6),
)

VIDEO_PROFILE = LatestFields(
    name="video_profile",
    entity="video_id",
    topic="videos",
    fields=("category", "duration_seconds", "event_timestamp"),
)
VIEWER_RECENT = RecentItems(
    name="viewer_recent_watches", entity="viewer_id", topic="watches", item="video_id", length=30
)
NEWEST_VIDEOS = RecentItems(name="newest_videos", entity=None, topic="videos", item="video_id", length=100)

# A rating must not be an input to what it is compared with: the windows end just before the moment that asks.
_JUST_BEFORE_DAYS = 1 / MICROS_PER_DAY
VIEWER_RATINGS = WindowedView(
    name="viewer_ratings",
    entity="viewer_id",
    rows=(Rows(topic="ratings", entity="viewer_id", values=(("ratings", 1.0), ("rating", "rating"))),),
    windows=(
        *(
            total(f"viewer_rating_count_{d}d", "ratings", days=d, delay_days=_JUST_BEFORE_DAYS)
            for d in RATING_WINDOW_DAYS
        ),
        *(
            ratio(f"viewer_mean_rating_{d}d", "rating", "ratings", days=d, delay_days=_JUST_BEFORE_DAYS)
            for d in RATING_WINDOW_DAYS
        ),
    ),
    asked_by=Rows(topic="ratings", entity="viewer_id", values=()),
)
VIDEO_RATINGS = WindowedView(
    name="video_ratings",
    entity="video_id",
    rows=(Rows(topic="ratings", entity="video_id", values=(("ratings", 1.0), ("rating", "rating"))),),
    windows=(
        # The same for tiles of a day: ratings known by their date alone stand at midnight, where a tile ends.
        *(total(f"video_rating_count_{d}d", "ratings", days=d, delay_days=1.0) for d in RATING_WINDOW_DAYS),
        *(ratio(f"video_mean_rating_{d}d", "rating", "ratings", days=d, delay_days=1.0) for d in RATING_WINDOW_DAYS),
    ),
    tile=timedelta(days=1),
)

VIEWS = (VIEWER_ACTIVITY, VIDEO_POPULARITY, VIDEO_PROFILE, VIEWER_RECENT, NEWEST_VIDEOS)
# Of imported or sent ratings; the ranker of the live platform does not use them.
RATING_VIEWS = (VIEWER_RATINGS, VIDEO_RATINGS)

_VIEWER_PLAIN = tuple(name for name in VIEWER_ACTIVITY.features if "_share_" not in name)
_SHARES = slice(len(_VIEWER_PLAIN), len(VIEWER_ACTIVITY.features))
INPUTS = (
    *_VIEWER_PLAIN,
    *VIDEO_POPULARITY.features,
    "viewer_category_share_30d",
    "video_age_days",
    "video_duration_minutes",
    "is_weekend",
    "hour",
    "position",
)
# What the ranker is told at serving time: every candidate is scored as if it stood in the first place, so that
# what training learned about positions does not leak into the order.
SERVING_POSITION = 1.0


def ranker_inputs(  # noqa: PLR0913 - one argument for each thing that a row is made of
    *,
    viewer: Floats,
    videos: Floats,
    categories: NDArray[np.int64],
    published: NDArray[np.int64],
    durations: Floats,
    as_of: NDArray[np.int64],
    positions: Floats,
) -> Floats:
    """The ranker's input rows, in training and at serving time alike.

    Args:
        viewer: shape (n, len(VIEWER_ACTIVITY.features)).
        videos: shape (n, len(VIDEO_POPULARITY.features)).
        categories: shape (n,), index into `CATEGORIES`.
        published: shape (n,), microseconds.
        durations: shape (n,), seconds.
        as_of: shape (n,), microseconds: the moment of the impression or request.
        positions: shape (n,), 1 is first; `SERVING_POSITION` at serving time.

    Returns:
        Shape (n, len(INPUTS)).
    """
    hours = as_of % MICROS_PER_DAY // (MICROS_PER_DAY // 24)
    # 1970-01-01 was a Thursday; Saturday and Sunday are days 5 and 6 of a week that starts on Monday.
    weekdays = (as_of // MICROS_PER_DAY + 3) % 7
    category_share = np.take_along_axis(viewer[:, _SHARES], categories[:, None], axis=1)[:, 0]
    return np.column_stack(
        [
            viewer[:, : len(_VIEWER_PLAIN)],
            videos,
            category_share,
            np.maximum((as_of - published) / MICROS_PER_DAY, 0.0),
            durations / 60.0,
            (weekdays >= 5).astype(np.float64),  # noqa: PLR2004 - see above
            hours.astype(np.float64),
            positions,
        ]
    )
