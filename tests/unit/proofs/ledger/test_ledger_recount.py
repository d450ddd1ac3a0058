"""The recount in SQL says what ingestion says, though it shares no code with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_events import EVENTS, NOW, TOPIC_NAMES, example

from reference_system.event_time import micros
from reference_system.events import Event, Topic, decode, encode
from reference_system.features.stream.deduplication import Acceptance, PolledBatch, classify
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.task_file import HISTORY_OFFSET
from reference_system.lake import delta_lake
from reference_system.proofs.ledger import duckdb_recount as recount
from reference_system.use_cases import topic_named

TRANSACTIONS = topic_named("transactions")
ADA = "c000001"


def batch(values: Sequence[bytes | None], *, part: int = 0, keys: Sequence[bytes | None] = ()) -> pa.RecordBatch:
    columns = {
        "part": pa.array([part] * len(values), pa.int32()),
        "off": pa.array(range(len(values)), pa.int64()),
        "key": pa.array(keys or [ADA.encode()] * len(values), pa.large_binary()),
        "value": pa.array(values, pa.large_binary()),
    }
    return pa.RecordBatch.from_pydict(columns)


def span(count: int, *, part: int = 0, first: int = 0) -> recount.PartitionSpan:
    return recount.PartitionSpan(part=part, read_from=first, read_to=count, taken_to=count, log_end=count)


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def parsed(duck: duckdb.DuckDBPyConnection, topic: Topic, values: Sequence[bytes | None]) -> list[dict[str, object]]:
    for kind in ("dead", "raw"):
        duck.execute(f'DROP TABLE IF EXISTS "{kind}_{topic.name}"')
    recount.load_dead_letters(duck, topic, [])
    list(recount.load_records(duck, topic, [batch(values)]))
    return duck.sql(f'FROM "raw_{topic.name}" ORDER BY "off"').to_arrow_table().to_pylist()


def as_recounted(event: Event) -> dict[str, object]:
    return {
        name: micros(value) if isinstance(value := getattr(event, name), datetime) else value
        for name in event.__struct_fields__
    }


@pytest.mark.parametrize("topic", TOPIC_NAMES)
def test_a_record_is_read_as_the_decoder_reads_it(topic: str):
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(event=EVENTS[topic], escaped=st.sampled_from([True, False]))
    def check(event: Event, *, escaped: bool):
        with duckdb.connect() as duck:
            plain = encode(event)
            written = json.dumps(json.loads(plain), ensure_ascii=escaped, indent=1).encode()
            for row in parsed(duck, topic_named(topic), [plain, written]):
                assert {name: row[name] for name in event.__struct_fields__} == as_recounted(event)

    check()


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-03T11:00:00Z",
        "2025-03-03 11:00:00Z",
        "2025-03-03t11:00:00.5z",
        "2025-03-03T13:30:00.000001+02:30",
        "2025-03-03T00:00:00-11:59",
        "2025-03-03T11:00:00-00:00",
        "2025-03-03T11:00:00.1234561Z",
        "2025-03-03T11:00:00.1234567Z",
        "2025-03-03T11:00:00.123456789+01:00",
        "2025-02-28T23:59:59.9999999Z",
        "1990-01-01T00:00:00Z",
    ],
)
def test_a_time_is_read_to_the_microsecond_as_the_decoder_reads_it(duck: duckdb.DuckDBPyConnection, text: str):
    value = encode(example("transactions")).replace(b"2025-03-03T12:00:00Z", text.encode())
    (row,) = parsed(duck, TRANSACTIONS, [value])
    assert row["event_timestamp"] == micros(decode(TRANSACTIONS, value, now=NOW).event_timestamp)


@pytest.mark.parametrize("value", [None, b"", b"nonsense", b"\xff\xfe", b"[]", b"{}", b"null", b'{"amount": NaN'])
def test_what_cannot_be_read_is_no_event_and_stops_nothing(duck: duckdb.DuckDBPyConnection, value: bytes | None):
    bad, good = parsed(duck, TRANSACTIONS, [value, encode(example("transactions"))])
    assert bad["transaction_id"] is None
    assert good["transaction_id"] == "x1"


def test_a_dead_letter_is_compared_with_the_bytes_of_its_record(duck: duckdb.DuckDBPyConnection):
    values = [b"equal", b"other bytes", None, b"other key", b"copies that differ"]
    keys = [b"k", b"k", None, b"k", b"k"]
    letters = batch(
        [b"equal", b"OTHER", None, b"other key", b"copies that differ"], keys=[b"k", b"k", b"", b"K", b"k"]
    )
    again = batch([b"equal", b"OTHER", None, b"other key", b"COPIES"], keys=[b"k", b"k", b"", b"K", b"k"])
    recount.load_dead_letters(duck, TRANSACTIONS, [letters, again])
    list(recount.load_records(duck, TRANSACTIONS, [batch(values, keys=keys)]))
    rows = duck.sql('SELECT dead, same FROM raw_transactions ORDER BY "off"').fetchall()
    assert rows == [(True, True), (True, False), (True, True), (True, False), (True, False)]


# Verdicts


def payment(name: int, hours: float) -> Event:
    return example(
        "transactions", transaction_id=f"x{name}", event_timestamp=NOW - timedelta(days=40) + timedelta(hours=hours)
    )


def verdicts(
    lake: Path, streams: Mapping[int, Sequence[Event]], *, history: Sequence[Event] = ()
) -> dict[int, list[str]]:
    """What the recount says of each partition's records."""
    rows = delta_lake.to_table(TRANSACTIONS, history, [-1] * len(history), [-1] * len(history))
    delta_lake.append(lake, TRANSACTIONS, rows, versions={})
    with duckdb.connect() as duck:
        recount.load_dead_letters(duck, TRANSACTIONS, [])
        batches = [batch([encode(event) for event in events], part=part) for part, events in streams.items()]
        list(recount.load_records(duck, TRANSACTIONS, batches))
        recount.load_lake(duck, lake, TRANSACTIONS, [])
        recount.classify_records(
            duck, TRANSACTIONS, [span(len(events), part=part) for part, events in streams.items()]
        )
        found = duck.sql('SELECT part, verdict FROM verdict_transactions ORDER BY part, "off"').fetchall()
    return {part: [verdict for other, verdict in found if other == part] for part in streams}


def as_ingestion_judges(events: Sequence[Event], history: Sequence[Event]) -> list[str]:
    known = [(event.transaction_id, micros(event.event_timestamp)) for event in history]
    seen: dict[str, list[Acceptance]] = {}
    for name, time in sorted(known, key=lambda pair: pair[1]):
        seen.setdefault(name, [Acceptance(HISTORY_OFFSET, time, False)])
    newest = max((time for _, time in known), default=None)
    one = PolledBatch(TRANSACTIONS, range(len(events)), events)
    return [str(outcome) for outcome in classify(one, next_offset=0, newest=newest, seen=seen).outcomes]


# Few ids and times around the bounds of a day and of a week, so that ids come again on both sides of them.
_payments = st.lists(
    st.builds(
        payment, st.integers(0, 5), st.sampled_from([*range(0, 720, 23), *range(0, 720, 24), *range(0, 720, 84)])
    ),
    max_size=30,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=_payments, history=st.lists(st.builds(payment, st.integers(0, 5), st.integers(-200, 0)), max_size=4))
def test_the_recount_judges_every_record_as_ingestion_does(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], history: list[Event]
):
    if not events:
        return
    lake = tmp_path_factory.mktemp("lake")
    assert verdicts(lake, {0: events}, history=history)[0] == as_ingestion_judges(events, history)


def test_an_id_counts_again_when_a_week_has_passed_and_not_before(tmp_path: Path):
    events = [payment(1, 0), payment(2, 100), payment(1, 101), payment(3, 169), payment(1, 170), payment(1, 171)]
    assert verdicts(tmp_path, {0: events})[0] == [
        "counted",
        "counted",
        "duplicate",
        "counted",
        "counted",
        "duplicate",
    ]


def test_a_duplicate_moves_no_clock(tmp_path: Path):
    """A second use of an id, far in the future, must not make what follows late."""
    assert verdicts(tmp_path, {0: [payment(1, 0), payment(1, 100), payment(2, 1)]})[0] == [
        "counted",
        "duplicate",
        "counted",
    ]


def test_partitions_are_judged_apart_and_know_the_history_of_their_own_keys(tmp_path: Path):
    mine = partition_of(ADA, 2)
    again = payment(1, 1)
    streams = {mine: [again], 1 - mine: [again]}
    found = verdicts(tmp_path, streams, history=[payment(1, 0)])
    assert found == {mine: ["duplicate"], 1 - mine: ["counted"]}


def test_rows_whose_records_are_gone_are_known_as_arrived(tmp_path: Path, duck: duckdb.DuckDBPyConnection):
    before = [payment(1, 0), payment(2, 200), payment(3, 100)]
    rows = delta_lake.to_table(TRANSACTIONS, before, [0, 0, 0], [0, 1, 2], [False, False, True])
    delta_lake.append(tmp_path, TRANSACTIONS, rows, versions={0: 2})
    left = [payment(1, 201), payment(2, 201), payment(3, 201), payment(4, 150)]
    values = [encode(event) for event in [*before, *left]]
    recount.load_dead_letters(duck, TRANSACTIONS, [])
    list(recount.load_records(duck, TRANSACTIONS, [batch(values).slice(3)]))
    recount.load_lake(duck, tmp_path, TRANSACTIONS, [])
    recount.classify_records(duck, TRANSACTIONS, [span(7, first=3)])
    found = [verdict for (verdict,) in duck.sql('SELECT verdict FROM verdict_transactions ORDER BY "off"').fetchall()]
    assert found == ["counted", "duplicate", "duplicate", "late"]
    assert found == as_ingestion_judges([*before, *left], [])[3:]


def test_a_gathered_part_loses_no_record(duck: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recount, "_BATCH_ROWS", 3)
    recount.load_dead_letters(duck, TRANSACTIONS, [])
    whole = batch([encode(payment(number, 0)) for number in range(10)])
    parts = [whole.slice(0, 2), whole.slice(2, 2), whole.slice(4, 6)]
    assert list(recount.load_records(duck, TRANSACTIONS, parts)) == [4, 10]
    assert duck.sql("SELECT count(DISTINCT transaction_id) FROM raw_transactions").fetchall() == [(10,)]
