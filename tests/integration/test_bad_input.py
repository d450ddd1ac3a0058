"""Bad input through a real broker: it ends on the dead-letter topic, its bytes equal, and the partition moves on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_system import Message, emptied, ingest, message, own_broker, produce
from sample_events import NOW, example

from reference_system.events import encode
from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter, Origin, read_shelf
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.proofs.drills.malformed import good_transaction, malformed
from reference_system.proofs.ledger.ledger import recount_and_compare
from reference_system.proofs.scratch_system import Scratch
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS, topic_named

GOOD_TOPIC = topic_named("transactions")


@pytest.fixture(scope="module")
def broker_of_this_file(tmp_path_factory) -> Iterator[Scratch]:
    with own_broker(tmp_path_factory.mktemp("bad-input")) as running:
        yield running


@pytest.fixture
def system(broker_of_this_file: Scratch, tmp_path: Path) -> Settings:
    return emptied(broker_of_this_file, tmp_path)


def letters(system: Settings) -> list[DeadLetter]:
    with TopicLog(system.kafka_bootstrap) as log:
        found = [each for topic in TOPICS for each in read_shelf(log, topic)]
    return [each for each in found if isinstance(each, DeadLetter)]


def test_every_malformed_message_is_kept_as_it_was_and_nothing_behind_it_waits(system: Settings):
    bad = malformed(NOW)
    messages: list[Message] = []
    for number, each in enumerate(bad):
        messages += [(each.topic, each.key, each.value), message(GOOD_TOPIC, good_transaction(number, NOW))]
    produce(system.kafka_bootstrap, messages)
    ingest(system)

    found = letters(system)
    assert sorted((each.origin.topic, each.key, each.value or b"", each.error_class) for each in found) == sorted(
        (each.topic, each.key, each.value or b"", str(each.kind)) for each in bad
    )
    assert sum(each.value is None for each in found) == sum(each.value is None for each in bad) == 1
    assert all(each.error.startswith(f"{each.origin.topic}: ") for each in found)
    assert {(each.schema_version, each.attempt) for each in found} == {("1", 1)}
    report = recount_and_compare(system)
    assert report.problems == []
    lines = {line.topic: line for line in report.topics}
    assert sum(line.dead_lettered for line in report.topics) == len(bad)
    assert lines["transactions"].counted == len(bad)
    assert sum(line.waiting for line in report.topics) == 0


def test_a_dead_letter_names_the_place_of_its_record_and_a_long_reason_is_cut(system: Settings):
    name = "x" * 10_000
    bad = encode(example("transactions"))[:-1] + f',"{name}":1}}'.encode()
    produce(
        system.kafka_bootstrap,
        [message(GOOD_TOPIC, example("transactions")), ("transactions", b"c000001", bad)],
    )
    ingest(system)
    (letter,) = letters(system)
    assert letter.origin == Origin("transactions", letter.origin.partition, 1)
    assert letter.value == bad
    assert len(letter.error) == 500


def test_messages_without_a_key_are_refused_and_kept(system: Settings):
    value = encode(example("transactions"))
    produce(system.kafka_bootstrap, [("transactions", None, value), ("transactions", b"", None)])
    ingest(system)
    found = {each.error_class: each for each in letters(system)}
    assert (found["wrong-key"].key, found["wrong-key"].value) == (None, value)
    assert (found["tombstone"].key, found["tombstone"].value) == (b"", None)
    assert recount_and_compare(system).problems == []
