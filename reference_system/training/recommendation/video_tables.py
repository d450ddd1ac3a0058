"""What the recommender knows of the videos at a moment: the catalogue and what watches say about it.

In: the lake and a moment. Out: arrays with one row for each video, by index.
Invariant: nothing that happened at or after the moment is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system.arrays import Floats, Floats32, Ints, Micros
from reference_system.errors import TrainingError
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.training.recommendation import duckdb_events
from reference_system.training.recommendation.recommenders.recommenders import item_factors
from reference_system.training.temporal_split import Span
from reference_system.use_cases.recommendation.labels import MIN_COMPLETION
from reference_system.use_cases.recommendation.model import FACTORS, Neighbours, item_neighbours

# Watches that say which videos belong together, and which are wanted now.
TASTE_DAYS = 30
TREND_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """The catalogue, oldest first; row i of each array is video i."""

    ids: NDArray[np.str_]
    categories: Ints
    durations: Floats
    published: Micros

    def __len__(self) -> int:
        """The size of the catalogue."""
        return len(self.ids)

    def indices(self, ids: pa.Array | pa.ChunkedArray) -> Ints:
        """The index of each id; -1 for a video that is not in the catalogue."""
        found = pc.index_in(ids, value_set=pa.array(self.ids.tolist()))
        indices: Ints = pc.fill_null(pc.cast(found, "int64"), -1).to_numpy()
        return indices


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTables:
    """The catalogue with the item-to-item table, the factors and the order of popularity (most watched first).

    `vectors` has shape (videos, rank).
    """

    videos: Videos
    neighbours: Neighbours
    vectors: Floats32
    popular: Ints


def read_videos(lake: Path, until: datetime) -> Videos:
    """The videos published before a moment."""
    table = duckdb_events.catalogue(lake, until=until)
    return Videos(
        ids=np.array(table["video_id"].to_pylist(), np.str_),
        categories=table["category"].to_numpy().astype(np.int64),
        durations=table["duration_seconds"].to_numpy(),
        published=table["time"].to_numpy(),
    )


def video_tables(lake: Path, moment: datetime) -> VideoTables:
    """The tables as of a moment.

    Raises:
        TrainingError: if nothing was published or watched before it.
    """
    videos = read_videos(lake, moment)
    watches = duckdb_events.watched_videos(lake, Span(start=moment - timedelta(days=TASTE_DAYS), end=moment))
    items = videos.indices(watches["video_id"])
    times = watches["time"].to_numpy()
    liked = (watches["completion"].to_numpy() >= MIN_COMPLETION) & (items >= 0)
    if not liked.any():
        raise TrainingError(
            f"no video was watched in the {TASTE_DAYS} days before {moment:%Y-%m-%d %H:%M}",
            next_command="workbook status",
        )
    coded = watches["viewer_id"].combine_chunks().dictionary_encode()
    viewers, n_viewers = pc.cast(coded.indices, "int64").to_numpy()[liked], len(coded.dictionary)
    neighbours = item_neighbours(viewers, items[liked], n_videos=len(videos), n_viewers=n_viewers)
    seen = csr_matrix((np.ones(len(viewers)), (viewers, items[liked])), shape=(n_viewers, len(videos)))
    seen.data[:] = 1.0  # a video that was watched twice counts once
    since = micros(moment) - TREND_DAYS * MICROS_PER_DAY
    counts = np.bincount(items[liked & (times >= since)], minlength=len(videos))
    return VideoTables(
        videos=videos,
        neighbours=neighbours,
        vectors=item_factors(seen, rank=FACTORS),
        popular=np.argsort(-counts, kind="stable"),
    )
