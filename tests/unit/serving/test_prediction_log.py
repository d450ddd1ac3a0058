"""The prediction log takes what it is given at once, up to its bound."""

from __future__ import annotations

from collections import Counter

from sample_events import example

from reference_system.events import PREDICTIONS
from reference_system.serving import kafka_prediction_log
from reference_system.serving.kafka_prediction_log import PredictionLog
from reference_system.serving.spool import Spool


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
