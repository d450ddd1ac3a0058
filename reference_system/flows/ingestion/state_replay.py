"""Task files from the topics: every record that was consumed, consumed again from the beginning.

In: the lake's generated history, the topics, and how far each task was. Out: task files that must equal those that
are there, to the byte of every state.
Invariant: what ingestion refused is refused again (the dead-letter topics say what that was: the clock, which judges
times in the future, has moved on); all else is classified anew by the same code.

The lake gives the same states faster, and is what a start uses (`features/stream/rebuild.py`). This way is the proof
that topics, lake and states say the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.events import PartitionKey, Topic
from reference_system.features.stream.deduplication import PolledBatch
from reference_system.features.stream.forwarding import Channel, Forwarded, decode_forwarded
from reference_system.features.stream.rebuild import put_in_place, rebuild_tasks
from reference_system.features.stream.snapshot import TaskSnapshot, digest, snapshots, task_file, task_files
from reference_system.features.stream.state import StreamState
from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter, read_shelf
from reference_system.ingestion.decode import KafkaRecord, decode_records
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.paths import StatePaths
from reference_system.progress import Progress
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS, VIEWS

_ANY_TIME = datetime(9999, 1, 1, tzinfo=UTC)
# What became of a share of the work, and in words.


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found."""

    records: int
    before: str | None  # the digest of the task files that were there; None if there were none
    after: str

    @property
    def is_equal(self) -> bool:
        """Whether the files that were there say the same."""
        return self.before in (None, self.after)


def replay_topics(settings: Settings, progress: Progress, *, replace: Callable[[Replayed], bool]) -> Replayed:
    """Consume everything again, up to where the task files stand, and compare.

    Args:
        settings: where everything is.
        progress: told how far it is.
        replace: whether to put the new files in place of those that are there; ingestion must not run then.

    Raises:
        StateError: if the broker no longer holds all records.
        ServiceError: if it does not answer.
    """
    paths = StatePaths(settings.state_dir)
    found = snapshots(paths.stream_tasks) if task_files(paths.stream_tasks) else []
    draft = paths.stream_tasks / "replay"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        records = _consume(settings, draft, found, progress)
        before = digest(found) if found else None
        done = Replayed(records=records, before=before, after=digest(snapshots(draft)))
        if replace(done):
            for task in range(settings.kafka_partitions):
                put_in_place(task_file(draft, task), task_file(paths.stream_tasks, task))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return done


def _consume(settings: Settings, draft: Path, found: Sequence[TaskSnapshot], progress: Progress) -> int:
    lake, count = StatePaths(settings.state_dir).lake, settings.kafka_partitions
    rebuild_tasks(
        draft,
        lake,
        TOPICS,
        VIEWS,
        build=range(count),
        tasks=count,
        count_dead_letters=lambda _: {},
        report=lambda line: progress(0.0, line),
        history_only=True,
    )
    with ExitStack() as opened:
        tasks = {
            task: opened.enter_context(closing(StreamState(task_file(draft, task), VIEWS, task=task, tasks=count)))
            for task in range(count)
        }
        log = opened.enter_context(TopicLog(settings.kafka_bootstrap))
        limits = {snapshot.task: snapshot.taken for snapshot in found}
        ends = {(topic, snapshot.task): n for snapshot in found for topic, n in snapshot.positions.items()} or None
        done = 0
        for topic in TOPICS:
            for records, share in _records(log, topic, ends):
                done += len(records)
                progress(share, f"{topic.name}: {done} records consumed again")
                _apply(topic, records, tasks, limits)
    return done


def _records(
    log: TopicLog, topic: Topic, ends: Mapping[PartitionKey, int] | None
) -> Iterator[tuple[list[tuple[KafkaRecord, bool]], float]]:
    """A topic's records below the ends, in batches of one partition, each with whether it was refused."""
    extent = {
        partition: (first, end if ends is None else ends.get((topic.name, partition), 0))
        for partition, (first, end) in log.extent(topic.name).items()
    }
    for partition, (first, _) in extent.items():
        if first > 0:
            raise StateError(
                f"the broker holds {topic.name}-{partition} only from {first} on: older records were removed by its"
                " retention, so the topics alone no longer tell the state; the lake does",
                next_command="workbook verify",
            )
    refused = {
        (letter.origin.partition, letter.origin.offset)
        for letter in read_shelf(log, topic)
        if isinstance(letter, DeadLetter)
    }
    total, done = sum(end for _, end in extent.values()), 0
    for batch in log.read(topic.name, extent):
        done += len(batch)
        yield (
            [
                (
                    KafkaRecord(
                        topic=each.topic,
                        partition=each.partition,
                        offset=each.offset,
                        produced_ms=each.timestamp,
                        key=each.key,
                        value=each.value,
                    ),
                    (each.partition, each.offset) in refused,
                )
                for each in batch
            ],
            done / total,
        )


def _apply(
    topic: Topic,
    records: Sequence[tuple[KafkaRecord, bool]],
    tasks: Mapping[int, StreamState],
    limits: Mapping[int, Mapping[Channel, int]],
) -> None:
    """One batch of one partition, and what it adds to other tasks."""
    decoded = decode_records([record for record, _ in records], {topic.name: topic}, now=_ANY_TIME)
    events = [None if refused else each.event for each, (_, refused) in zip(decoded, records, strict=True)]
    source = tasks[records[0][0].partition]
    source.apply([PolledBatch(topic, [record.offset for record, _ in records], events)])
    is_whole = True
    for number, target, data in source.outbox():
        record, taken = _taken_part(decode_forwarded(data), limits.get(target))
        tasks[target].apply([], forwarded=[record])
        # What the task had not taken when it was looked at stays in the outbox and is sent again.
        is_whole = is_whole and taken
        if is_whole:
            source.mark_sent(number)


def _taken_part(record: Forwarded, limit: Mapping[Channel, int] | None) -> tuple[Forwarded, bool]:
    """Of a record only the rows that the task had taken, and whether those are all."""
    if limit is None:
        return record, True
    whole = True
    for rows in record.rows:
        end = limit.get((record.source, rows.topic), 0)
        keep = sum(offset < end for offset in rows.offsets)
        if keep < len(rows.offsets):
            whole = False
            for column in (rows.keys, rows.offsets, rows.known, rows.additions):
                del column[keep:]
    reached = {topic: min(n, limit.get((record.source, topic), 0)) for topic, n in record.reached.items()}
    return msgspec.structs.replace(record, reached=reached), whole
