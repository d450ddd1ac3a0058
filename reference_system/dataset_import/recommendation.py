"""A file of ratings: its columns, and the events that its rows are."""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b

import pyarrow as pa

from reference_system.dataset_import.file_shapes import FIELD_OF, ROW, FileShape
from reference_system.events import Topic
from reference_system.use_cases.recommendation.events import RATINGS

_ID_BYTES = 16


def _with_rating_id(rows: pa.Table) -> pa.Table:
    """A rating is the one that this user gave to this item at this moment."""
    users, items = (rows[name].to_pylist() for name in ("user_id", "item_id"))
    times = rows["event_timestamp"].cast(pa.int64()).to_pylist()
    ids = [rating_id(user, item, time) for user, item, time in zip(users, items, times, strict=True)]
    return rows.append_column("rating_id", pa.array(ids, pa.string()))


def rating_id(user: str, item: str, time: int) -> str:
    """The id of a rating, the same wherever it is derived; `time` in microseconds."""
    # Ids hold no ends of lines: with those for their spaces no two ratings are written alike.
    who, what = user.replace(" ", "\n"), item.replace(" ", "\n")
    return blake2b(f"{who} {what} {time}".encode(), digest_size=_ID_BYTES).hexdigest()


def _ratings(rows: pa.Table, label_delay: timedelta) -> dict[Topic, pa.Table]:  # noqa: ARG001 - ratings have no labels
    rows = rows.append_column("schema_version", pa.array([1] * len(rows), pa.int64()))
    rows = rows.rename_columns({field: name for name, field in FIELD_OF.items()})
    return {RATINGS: rows.select([ROW, *RATINGS.record.__struct_fields__])}


SHAPE = FileShape(
    use_case="recommendation",
    what="ratings",
    fields={"user_id": "id", "item_id": "id", "event_timestamp": "moment", "rating": "rating"},
    event_id="rating_id",
    identity="user_id, item_id and event_timestamp",
    contradiction="another rating",
    content=("rating",),
    entities=("viewer_id", "video_id"),
    topics=(RATINGS,),
    held="SELECT rating_id, rating FROM ratings",
    identified=_with_rating_id,
    events=_ratings,
)
