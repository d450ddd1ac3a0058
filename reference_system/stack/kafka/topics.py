"""Topics of the broker: made explicitly, counted, waited for.

In: the broker's `host:port` and topic names. Out: topics that exist with enough partitions; end offsets.
Invariant: no topic is ever made by accident (the broker refuses auto-creation) or made twice.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from reference_system.errors import ServiceError, StateError
from reference_system.events import REPARTITION_TOPIC

_DEAD_LETTER_SUFFIX = ".dead-letter"

# A rejected event travels with its reason and origin in headers. Twice the broker's limit for ordinary messages
# (1 MiB), so that an event of the largest accepted size still fits beside them.
_DEAD_LETTER_MESSAGE_BYTES = 2 * 1024 * 1024
# One record has all rows of a poll for one task; a poll may hold thousands of pages of fifty videos.
_REPARTITION_MESSAGE_BYTES = 8 * 1024 * 1024

# What a task sends to another is taken within seconds; a task that is away for longer finds this much of it.
_REPARTITION_KEPT_BYTES = 64 * 1024 * 1024

# The broker is on this machine: an answer that takes longer than this will not come.
_REQUEST_TIMEOUT_MS = 10_000
_CONNECT_SECONDS = 1.0
_POLL_SECONDS = 0.05


def wait_for_broker(bootstrap: str, deadline_seconds: float) -> None:
    """Return when the broker at `bootstrap` (`host:port`) answers a metadata request.

    The port comes first: a client that is constructed before it is open backs off for many seconds.

    Raises:
        ServiceError: if it does not answer within `deadline_seconds`.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ServiceError(
                f"the Kafka broker at {bootstrap} does not answer after {deadline_seconds:g} s",
                next_command="workbook logs kafka",
            )
        try:
            with _admin(bootstrap, bootstrap_seconds=remaining) as admin:
                admin.list_topics()
        except (ServiceError, KafkaError):
            time.sleep(_POLL_SECONDS)
        else:
            return


def ensure_topics(bootstrap: str, topics: Sequence[str], partitions: int) -> list[str]:
    """Make the topics that are missing and return their names, in the order given.

    A second call makes nothing. Returns when every partition of every topic has a leader.

    Raises:
        ServiceError: if the broker does not answer.
        StateError: if a topic exists with fewer partitions than asked. It is not widened: a key would move to
            another partition, and with it the order of its events.
    """
    with _admin(bootstrap) as admin:
        existing = _partition_counts(admin, topics)
        for topic, found in existing.items():
            if found < partitions:
                raise StateError(
                    f"topic {topic} has {found} partitions and the settings ask for {partitions} "
                    f"(WORKBOOK_KAFKA_PARTITIONS); set it to {found} or start with empty state",
                    next_command="make clean",
                )
        missing = [topic for topic in dict.fromkeys(topics) if topic not in existing]
        if missing:
            created = admin.create_topics(
                {topic: _options(topic, partitions) for topic in missing}, raise_errors=False
            )
            _check_created(created["topics"])
        admin.wait_for_topics(list(topics))
        return missing


def end_offsets(bootstrap: str, topics: Sequence[str]) -> dict[str, int]:
    """Events that the broker has acknowledged for each topic: the sum of its partitions' end offsets.

    A topic that does not exist is absent from the answer. Events that retention removed still count.

    Raises:
        ServiceError: if the broker does not answer.
    """
    with _admin(bootstrap) as admin:
        counts = _partition_counts(admin, topics)
        wanted = {
            TopicPartition(topic, partition): OffsetSpec.LATEST
            for topic, partitions in counts.items()
            for partition in range(partitions)
        }
        totals = dict.fromkeys(counts, 0)
        if wanted:
            for place, answer in admin.list_partition_offsets(wanted).items():
                totals[place.topic] += int(answer.offset)
        return totals


def delete_before(bootstrap: str, offsets: Mapping[str, Mapping[int, int]]) -> None:
    """Delete the records of each topic's partitions below these offsets; those that are gone already do no harm.

    Raises:
        ServiceError: if the broker does not answer, or refuses.
    """
    wanted = {
        TopicPartition(topic, part): offset
        for topic, parts in offsets.items()
        for part, offset in parts.items()
        if offset > 0
    }
    if not wanted:
        return
    with _admin(bootstrap) as admin:
        try:
            first = admin.list_partition_offsets(dict.fromkeys(wanted, OffsetSpec.EARLIEST))
            # Below its first record the broker refuses an offset as out of range.
            ahead = {place: offset for place, offset in wanted.items() if offset > int(first[place].offset)}
            if ahead:
                admin.delete_records(ahead)
        except KafkaError as error:
            raise ServiceError(f"the broker did not delete old records: {error!r}") from error


@contextmanager
def _admin(bootstrap: str, *, bootstrap_seconds: float = _CONNECT_SECONDS) -> Iterator[KafkaAdminClient]:
    """A client that fails at once when nothing listens, instead of backing off."""
    host, _, port = bootstrap.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=min(bootstrap_seconds, _CONNECT_SECONDS)).close()
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            client_id="workbook-topics",
            bootstrap_timeout_ms=max(int(bootstrap_seconds * 1000), 1),
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
    except (OSError, KafkaError) as error:
        raise ServiceError(f"no Kafka broker answers at {bootstrap}: {error}") from error
    try:
        yield admin
    finally:
        admin.close()


def _partition_counts(admin: KafkaAdminClient, topics: Sequence[str]) -> dict[str, int]:
    """Partitions of each of the topics that exist."""
    described = admin.describe_topics(sorted(set(topics)))
    return {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


def _options(topic: str, partitions: int) -> dict[str, object]:
    limits = {}
    if topic.endswith(_DEAD_LETTER_SUFFIX):
        limits["max.message.bytes"] = str(_DEAD_LETTER_MESSAGE_BYTES)
    if topic == REPARTITION_TOPIC:
        limits["max.message.bytes"] = str(_REPARTITION_MESSAGE_BYTES)
        limits["retention.bytes"] = str(_REPARTITION_KEPT_BYTES)
        limits["segment.bytes"] = str(_REPARTITION_KEPT_BYTES // 4)
    return {"num_partitions": partitions, "replication_factor": 1, "configs": limits}


def _check_created(answers: Sequence[Mapping[str, object]]) -> None:
    """Raise for a topic that could not be made, except that another process was faster."""
    already_exists = 36  # error code of the Kafka protocol
    for answer in answers:
        if answer["error_code"] not in (0, already_exists):
            raise ServiceError(
                f"topic {answer['name']} could not be made: {answer['error_message']}",
                next_command="workbook logs kafka",
            )
