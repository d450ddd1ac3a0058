"""File shapes: what a file of each use case holds, and the events that its rows are.

In: rows with typed columns. Out: for each topic the columns of its record.
Invariant: a row's events follow from the row and the label delay alone, ids included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from reference_system.events import Topic
from reference_system.use_cases.fraud.events import CHARGEBACKS, TRANSACTIONS
from reference_system.use_cases.recommendation.events import RATINGS

ROW = "source_row"
ColumnKind = Literal["id", "moment", "amount", "rating", "flag"]
_ID_BYTES = 16
# The event's field → the file's, where they differ.
FIELD_OF = {"viewer_id": "user_id", "video_id": "item_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShape:
    """One use case's file.

    `identified` adds the event id to rows. `events` gives the records' columns by topic, each with the number of the
    row (`source_row`) that it comes from.
    """

    use_case: str
    what: str  # what a row is, in the plural
    fields: Mapping[str, ColumnKind]
    event_id: str  # the column that identifies a row: a field, or made of fields
    identity: str  # what it is in the words of a file
    content: tuple[str, ...]  # what must be equal where the id is
    contradiction: str  # what else is called where it is not
    entities: tuple[str, ...]  # the fields of the first topic that name somebody or something
    topics: tuple[Topic, ...]  # of the first there is one event for each row
    held: str  # SQL over tables named as the topics: event id and content of what a lake holds
    identified: Callable[[pa.Table], pa.Table]
    events: Callable[[pa.Table, timedelta], dict[Topic, pa.Table]]


def _named_already(rows: pa.Table) -> pa.Table:
    return rows


def _payments(rows: pa.Table, label_delay: timedelta) -> dict[Topic, pa.Table]:
    """A payment for each row, a chargeback a label delay later for each fraud; both have the payment's id."""
    rows = rows.append_column("schema_version", pa.array([1] * len(rows), pa.int64()))
    frauds = rows.filter(rows["is_fraud"])
    known = pc.add(frauds["event_timestamp"], pa.scalar(label_delay, pa.duration("us")))
    frauds = frauds.append_column("created_timestamp", known)
    frauds = frauds.append_column("chargeback_id", frauds["transaction_id"])
    return {
        TRANSACTIONS: rows.select([ROW, *TRANSACTIONS.record.__struct_fields__]),
        CHARGEBACKS: frauds.select([ROW, *CHARGEBACKS.record.__struct_fields__]),
    }


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


PAYMENTS = FileShape(
    use_case="fraud",
    what="transactions",
    fields={
        "transaction_id": "id",
        "event_timestamp": "moment",
        "customer_id": "id",
        "terminal_id": "id",
        "amount": "amount",
        "is_fraud": "flag",
    },
    event_id="transaction_id",
    identity="transaction_id",
    contradiction="other content",
    content=("event_timestamp", "customer_id", "terminal_id", "amount", "is_fraud"),
    entities=("customer_id", "terminal_id"),
    topics=(TRANSACTIONS, CHARGEBACKS),
    held="""
        SELECT t.transaction_id, t.event_timestamp, t.customer_id, t.terminal_id, t.amount,
            c.transaction_id IS NOT NULL AS is_fraud
        FROM transactions AS t LEFT JOIN chargebacks AS c USING (transaction_id)
    """,
    identified=_named_already,
    events=_payments,
)
INTERACTIONS = FileShape(
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
SHAPES = {shape.use_case: shape for shape in (PAYMENTS, INTERACTIONS)}
