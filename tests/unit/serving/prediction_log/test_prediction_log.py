"""The prediction log takes what it is given at once, up to its bound, and outlives a disk that is full."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from sample_events import example

from reference_system.events import PREDICTIONS
from reference_system.serving.prediction_log import kafka_log as kafka_prediction_log
from reference_system.serving.prediction_log.kafka_log import PredictionLog
from reference_system.serving.prediction_log.spool import Spool


class Log(PredictionLog):
    """A log whose broker a test switches on: it accepts records whose key is in `accepted`, or everything."""

    def __init__(self, tmp_path, monkeypatch):
        self.counts: Counter[str] = Counter()
        self.said = []
        self.path = tmp_path / "spool.tsv"
        self.up = False
        self.accepted = None
        monkeypatch.setattr(kafka_prediction_log, "_connect", self._new_producer)
        monkeypatch.setattr(kafka_prediction_log, "_RETRY_SECONDS", 0.0)
        super().__init__(
            "127.0.0.1:1",
            Spool(self.path),
            count=lambda outcome, number: self.counts.update({outcome: number}),
            report=lambda event, _reason: self.said.append(event),
        )

    def _new_producer(self, _bootstrap):
        if not self.up:
            raise OSError("nobody listens")

        def send(_topic, *, key, value):  # noqa: ARG001 - as the client is called
            taken = self.accepted is None or key.decode() in self.accepted
            return SimpleNamespace(succeeded=lambda: taken)

        return SimpleNamespace(send=send, flush=lambda **_: None, close=lambda **_: None)

    def step(self, *names):
        for name in names:
            self.add(PREDICTIONS, example("predictions", prediction_id=name, entity_id=name))
        self._round()

    def spooled(self):
        return [key.decode() for _, key, _ in self._spool.records()]


@pytest.fixture
def log(tmp_path, monkeypatch):
    return Log(tmp_path, monkeypatch)


def test_what_a_full_disk_does_not_take_is_counted_said_once_and_later_records_are_spooled_again(log):
    log.path.symlink_to("/dev/full")
    for name in ("a", "b", "c"):
        log.step(name)
    assert log.counts["unspooled"] == 3
    assert log.said == ["prediction_log_down", "prediction_log_spool_down"]
    log.path.unlink()
    log.step("d")
    assert log.spooled() == ["d"]
    assert log.counts["unspooled"] == 3
    assert log.said[2:] == ["prediction_log_spool_up"]


def test_a_spool_that_cannot_be_shortened_on_a_full_disk_loses_nothing_and_is_replayed_when_there_is_room(log):
    log.step("a", "b", "c")
    draft = log.path.with_suffix(".new")
    draft.symlink_to("/dev/full")
    log.up, log.accepted = True, {"a"}
    log.step()
    log.step()
    assert log.spooled() == ["a", "b", "c"]
    assert log.counts["replayed"] == 0
    assert log.said.count("prediction_log_spool_down") == 1
    draft.unlink()
    log.accepted = None
    log.step()
    assert log.spooled() == []
    assert log.counts["replayed"] == 3
    assert log.said[-1] == "prediction_log_spool_up"


def test_a_spool_that_cannot_be_removed_is_not_sent_at_every_step(log, monkeypatch):
    def busy(_records):
        raise OSError("Read-only file system")

    log.step("a")
    monkeypatch.setattr(log._spool, "keep", busy)
    monkeypatch.setattr(kafka_prediction_log, "_RETRY_SECONDS", 1e9)
    sent = []
    real = log._send
    monkeypatch.setattr(
        log, "_send", lambda records: sent.extend(key.decode() for _, key, _ in records) or real(records)
    )
    log.up = True
    for name in ("b", "c"):
        log.step(name)
    assert sent == ["b", "a", "c"]
    assert log.said[-1] == "prediction_log_spool_down"


def test_the_thread_outlives_what_nobody_foresaw_and_counts_what_it_lost(log, monkeypatch):
    def broken(_records):
        raise RuntimeError("what a client of another version may raise")

    log.up = True
    with monkeypatch.context() as patch:
        patch.setattr(log, "_send", broken)
        log.step("a")
        log.step("b")
    assert log.counts["dropped"] == 2
    assert log.said == ["prediction_log_thread_down"]
    log.step("c")
    assert log.counts["sent"] == 1
    assert log.said[-1] == "prediction_log_thread_up"


def test_more_than_its_memory_holds_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(kafka_prediction_log, "_MAX_WAITING", 3)
    counts: Counter[str] = Counter()
    log = PredictionLog(
        "127.0.0.1:1",
        Spool(tmp_path / "spool.tsv"),
        count=lambda outcome, number: counts.update({outcome: number}),
        report=lambda _event, _reason: None,
    )
    for number in range(5):
        log.add(PREDICTIONS, example("predictions", prediction_id=f"p{number}"))
    assert counts == {"dropped": 2}
    assert [record.prediction_id for _, record in log._waiting] == ["p0", "p1", "p2"]
