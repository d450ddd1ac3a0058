"""`workbook dead-letter` against a real broker: list, look, send again, and count exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from ledger_system import emptied, ingest, message, own_broker, produce
from local_broker import free_port_offset
from sample_events import example
from typer.testing import CliRunner, Result

from reference_system.cli import app
from reference_system.commands.data.dead_letter import ListedLetters, ReplayedLetters
from reference_system.events import encode
from reference_system.proofs.ledger.ledger import recount_and_compare
from reference_system.proofs.ledger.report import TopicLedger
from reference_system.proofs.scratch_system import Scratch
from reference_system.settings import Settings
from reference_system.use_cases import topic_named

TRANSACTIONS = topic_named("transactions")
GOOD = encode(example("transactions"))
NEWER = GOOD.replace(b'"schema_version":1', b'"schema_version":2')


@pytest.fixture(scope="module")
def broker_of_this_file(tmp_path_factory) -> Iterator[Scratch]:
    with own_broker(tmp_path_factory.mktemp("dead-letter")) as running:
        yield running


@pytest.fixture
def system(broker_of_this_file: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty system to which the command line points."""
    system = emptied(broker_of_this_file, tmp_path / "state")
    system.state_dir.mkdir()
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(system.state_dir))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(system.port_offset))
    return system


def workbook(*words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["dead-letter", *words], input=answer)


def listed(*words: str) -> ListedLetters:
    result = workbook("list", "--json", *words)
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=ListedLetters)


def refuse(system: Settings, *values: bytes | None, topic: str = "transactions") -> None:
    """Send bad values and let ingestion refuse them."""
    produce(system.kafka_bootstrap, [(topic, b"c000001", value) for value in values])
    ingest(system)


def line_of(system: Settings) -> TopicLedger:
    report = recount_and_compare(system)
    assert report.problems == []
    return next(line for line in report.topics if line.topic == "transactions")


def test_list_shows_what_was_refused_and_why(system: Settings):
    refuse(system, b"nonsense", NEWER, None)
    refuse(system, b"[]", topic="watches")
    found = {(each.error_class, each.bytes) for each in listed().letters}
    assert found == {("not-json", 8), ("unknown-version", len(NEWER)), ("tombstone", None), ("wrong-schema", 2)}
    assert [each.error_class for each in listed("--topic", "watches").letters] == ["wrong-schema"]
    assert [each.error_class for each in listed("--reason", "unknown-version").letters] == ["unknown-version"]
    assert [each.error_class for each in listed("--reason", "MALFORMED").letters] == ["not-json"]
    few = listed("--limit", "2")
    assert (few.total, len(few.letters)) == (4, 2)
    shown = workbook("list").output
    assert all(each.id in shown for each in listed().letters)
    assert "…" not in shown
    assert "4 of 4 dead letters" in shown
    assert "0 of 0 dead letters" in workbook("list", "--topic", "ratings").output


def test_show_prints_hostile_bytes_safely_and_raw_prints_them_exactly(system: Settings):
    hostile = 'a: "\x1b[31mred\u202e \u0007"'.encode() + b"\r\n"
    binary = bytes(range(256)) * 20
    refuse(system, hostile, binary, None)
    ids = {each.bytes: each.id for each in listed().letters}
    text = workbook("show", ids[len(hostile)]).stdout
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r'a: "\x1b[31mred\u202e \x07"\r\n' in text
    assert "error class  not-json" in text
    assert "key          c000001" in text
    text = workbook("show", ids[len(binary)]).stdout
    assert "hex 00010203 04050607" in text
    assert "5,120 bytes in all" in text
    assert workbook("show", "--raw", ids[len(binary)]).stdout_bytes == binary
    assert workbook("show", "--raw", ids[len(hostile)]).stdout_bytes == hostile
    assert "none: a tombstone" in workbook("show", ids[None]).stdout


def test_a_corrected_letter_is_counted_exactly_once_and_listed_as_sent_again(system: Settings, tmp_path: Path):
    refuse(system, NEWER)
    (before,) = listed().letters
    value = tmp_path / "value.json"
    value.write_bytes(GOOD)
    result = workbook("replay", before.id, "--value", str(value), "--yes", "--json")
    assert result.exit_code == 0, result.output
    replayed = msgspec.json.decode(result.stdout, type=ReplayedLetters).replayed
    ingest(system)
    (after,) = listed().letters
    assert after.replayed_as == replayed[before.id]
    line = line_of(system)
    assert (line.acknowledged, line.counted, line.dead_lettered) == (2, 1, 1)
    again = workbook("replay", before.id, "--yes")
    assert again.exit_code == 1
    assert f"was sent again as {after.replayed_as}" in again.output
    assert "nothing to send again" in workbook("replay", "--all", "--yes").output


def test_what_is_still_no_event_comes_back_with_its_attempt_raised(system: Settings):
    refuse(system, b"nonsense", NEWER)
    for attempt in (2, 3):
        assert workbook("replay", "--all", "--yes").exit_code == 0
        ingest(system)
        waiting = [each for each in listed().letters if each.replayed_as is None]
        assert [each.attempt for each in waiting] == [attempt, attempt]
    assert workbook("replay", "--all", "--reason", "not-json", "--yes").exit_code == 0
    ingest(system)
    waiting = [(each.error_class, each.attempt) for each in listed().letters if each.replayed_as is None]
    assert sorted(waiting) == [("not-json", 4), ("unknown-version", 3)]
    line = line_of(system)
    assert (line.acknowledged, line.dead_lettered) == (7, 7)


def test_a_letter_that_was_good_after_all_is_a_duplicate_if_it_is_sent_twice(system: Settings, tmp_path: Path):
    """As after a crash between the record and its mark."""
    refuse(system, NEWER, NEWER)
    value = tmp_path / "value.json"
    value.write_bytes(GOOD)
    for letter in listed().letters:
        assert workbook("replay", letter.id, "--value", str(value), "--yes").exit_code == 0
    ingest(system)
    line = line_of(system)
    assert (line.counted, line.duplicates, line.dead_lettered) == (1, 1, 2)


def test_a_corrected_value_travels_under_its_own_key(system: Settings, tmp_path: Path):
    produce(system.kafka_bootstrap, [("transactions", b"c000002", GOOD)])
    ingest(system)
    (letter,) = listed().letters
    assert letter.error_class == "wrong-key"
    value = tmp_path / "value.json"
    value.write_bytes(GOOD)
    assert workbook("replay", letter.id, "--value", str(value), "--yes").exit_code == 0
    ingest(system)
    line = line_of(system)
    assert (line.counted, line.dead_lettered) == (1, 1)


def test_replay_asks_first_and_a_no_sends_nothing(system: Settings):
    refuse(system, b"nonsense")
    refused = workbook("replay", "--all", answer="n\n")
    assert refused.exit_code == 1
    assert listed().letters[0].replayed_as is None
    assert workbook("replay", "--all", answer="y\n").exit_code == 0
    assert listed().letters[0].replayed_as is not None


def test_a_letter_that_a_crash_sent_twice_is_one(system: Settings):
    refuse(system, b"nonsense")
    (letter,) = listed().letters
    _, part, offset = letter.id.split("/")
    headers = [("topic", b"transactions"), ("partition", part.encode()), ("offset", offset.encode())]
    produce(system.kafka_bootstrap, [(TRANSACTIONS.dead_letter, b"c000001", b"nonsense")], headers=headers)
    produce(system.kafka_bootstrap, [(TRANSACTIONS.dead_letter, b"c000001", b"not ours")])
    assert [each.id for each in listed().letters] == [letter.id]
    assert line_of(system).dead_lettered == 1


def test_what_cannot_be_found_or_asked_is_said_in_a_line(system: Settings):
    produce(system.kafka_bootstrap, [message(TRANSACTIONS, example("transactions"))])
    for words, complaint in (
        (("show", "transactions/0/99"), "there is no dead letter transactions/0/99"),
        (("show", "nonsense"), "looks like transactions/0/17"),
        (("replay", "transactions/0/99", "--yes"), "there is no dead letter transactions/0/99"),
        (("list", "--topic", "nothing"), "there is no topic nothing"),
    ):
        result = workbook(*words)
        assert result.exit_code == 1, words
        assert complaint in result.output
    for words in (
        ("replay",),
        ("replay", "--all", "transactions/0/1"),
        ("replay", "transactions/0/1", "--reason", "x"),
    ):
        assert workbook(*words).exit_code == 2


def test_without_a_broker_the_next_command_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(free_port_offset()))
    result = workbook("list")
    assert result.exit_code == 1
    assert "run `make up`" in result.output
