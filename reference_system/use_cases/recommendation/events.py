"""What happens on the video platform."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from reference_system.event_shapes import Id
from reference_system.events import Event, Share, Topic

CATEGORIES = ("comedy", "drama", "kids", "music", "news", "science", "sport", "travel")
Category = Literal["comedy", "drama", "kids", "music", "news", "science", "sport", "travel"]
DurationSeconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]
Rating = Annotated[float, Meta(ge=0.0, le=5.0)]


class VideoPublished(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new video in the catalogue."""

    video_id: Id
    category: Category
    duration_seconds: DurationSeconds


class PageShown(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of impressions: the videos in the order of their positions, first is 1.

    `propensities` are the probabilities with which the policy that chose the page showed each video on it.
    """

    impression_id: Id
    session_id: Id
    viewer_id: Id
    video_ids: Annotated[list[Id], Meta(min_length=1, max_length=50)]
    propensities: Annotated[list[Share], Meta(min_length=1, max_length=50)]
    policy: Annotated[str, Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        """Refuse a page whose videos and propensities do not belong together."""
        if len(self.video_ids) != len(self.propensities):
            raise ValueError(f"{len(self.video_ids)} video_ids with {len(self.propensities)} propensities")


class VideoWatched(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A viewer stopped watching a video of a page; `completion` is the share that was seen."""

    watch_id: Id
    impression_id: Id
    viewer_id: Id
    video_id: Id
    category: Category
    position: Annotated[int, Meta(ge=1, le=50)]
    watch_seconds: Annotated[float, Meta(ge=0.0, le=86_400.0)]
    completion: Share


class VideoRated(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A viewer said how much they liked a video: up to five stars, none is the worst."""

    rating_id: Id
    viewer_id: Id
    video_id: Id
    rating: Rating


class ExposureLogged(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A viewer of an experiment was answered: in which arm, with which prediction."""

    exposure_id: Id
    experiment: Id
    arm: Literal["control", "treatment"]
    viewer_id: Id
    prediction_id: Id
    model_version: Annotated[str, Meta(min_length=1, max_length=64)]


VIDEOS = Topic(name="videos", record=VideoPublished, key="video_id", event_id="video_id")
IMPRESSIONS = Topic(name="impressions", record=PageShown, key="viewer_id", event_id="impression_id")
WATCHES = Topic(name="watches", record=VideoWatched, key="viewer_id", event_id="watch_id")
# What the simulated world produces. Ratings come from you: imported, or sent to their topic.
TOPICS = (VIDEOS, IMPRESSIONS, WATCHES)
RATINGS = Topic(name="ratings", record=VideoRated, key="viewer_id", event_id="rating_id")
# Comes from serving while an experiment runs.
EXPOSURES = Topic(name="exposures", record=ExposureLogged, key="viewer_id", event_id="exposure_id")
