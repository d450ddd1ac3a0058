"""The prediction log: every answer to Kafka, without an answer ever waiting for Kafka.

In: records with their topics, from the event loop and from the shadow. Out: the topics `predictions`,
`shadow-predictions` and `exposures`.
Invariant: `add` only appends to a bounded list in memory. A background thread sends; what Kafka does not accept goes
to the spool on disk and is sent again when Kafka is back. A record that was sent twice for that reason has the same
id, by which ingestion drops it.

A kill loses what was added in the last `_SEND_EVERY_SECONDS`; SIGTERM loses nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from kafka import KafkaProducer
from kafka.errors import KafkaError

from reference_system.events import Event, Topic, encode
from reference_system.kafka_producers import drop
from reference_system.serving.spool import Record, Spool

OUTCOMES = ("sent", "spooled", "replayed", "dropped")
# Records that may wait in memory: at 1,000 answers a second, as long as the client needs to find a broker gone.
_MAX_WAITING = 20_000
_SEND_EVERY_SECONDS = 0.05
_RETRY_SECONDS = 2.0
_BROKER_SECONDS = 3

Count = Callable[[str, int], None]
Report = Callable[[str, str], None]


class PredictionLog:
    """The log of one service."""

    def __init__(self, bootstrap: str, spool: Spool, *, count: Count, report: Report) -> None:
        """Nothing is connected before `start`."""
        self._bootstrap = bootstrap
        self._spool = spool
        self._count = count
        self._report = report
        self._waiting: deque[tuple[Topic, Event]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._producer: KafkaProducer | None = None
        self._retry_at = 0.0
        self._up = True

    def add(self, topic: Topic, record: Event) -> None:
        """Take a record; never waits and never fails."""
        if len(self._waiting) >= _MAX_WAITING:
            self._count("dropped", 1)
        else:
            self._waiting.append((topic, record))

    def start(self) -> None:
        """Begin to send."""
        # The client writes several lines for each attempt to reach a broker that is down; we write one.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._thread.start()

    def stop(self) -> None:
        """Send or spool what waits, then end; within about twice `_BROKER_SECONDS`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_SEND_EVERY_SECONDS):
            self._step()
        self._step()
        self._disconnect()

    def _step(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        batch = [(topic.name.encode(), topic.key_of(record).encode(), encode(record)) for topic, record in taken]
        if not batch and not self._spool:
            return
        if not self._connected():
            self._to_spool(batch)
            return
        if batch:
            failed = self._send(batch)
            self._count("sent", len(batch) - len(failed))
            self._to_spool(failed)
        if self._spool and self._producer is not None:
            waiting = self._spool.records()
            failed = self._send(waiting)
            self._spool.keep(failed)
            self._count("replayed", len(waiting) - len(failed))

    def _connected(self) -> bool:
        """Whether there is a producer; tries to make one every `_RETRY_SECONDS`."""
        if self._producer is None and monotonic() >= self._retry_at:
            try:
                self._producer = _connect(self._bootstrap)
            except (KafkaError, OSError) as error:
                self._disconnect(str(error))
            else:
                self._say(up=True, reason="connected")
        return self._producer is not None

    def _send(self, records: Sequence[Record]) -> list[Record]:
        """Send all and wait for the broker; what it did not acknowledge."""
        if self._producer is None:
            return list(records)
        futures = []
        reason = ""
        try:
            futures = [self._producer.send(name.decode(), key=key, value=value) for name, key, value in records]
            self._producer.flush(timeout=_BROKER_SECONDS)
        except (KafkaError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
        failed = [record for record, future in zip(records, futures, strict=False) if not future.succeeded()]
        failed += records[len(futures) :]
        if failed:
            self._disconnect(reason or "the broker did not acknowledge")
        return failed

    def _to_spool(self, records: Sequence[Record]) -> None:
        if not records:
            return
        try:
            kept = self._spool.append(records)
        except OSError as error:
            kept = 0
            self._report("prediction_log_spool_failed", str(error))
        self._count("spooled", kept)
        self._count("dropped", len(records) - kept)

    def _disconnect(self, reason: str | None = None) -> None:
        producer, self._producer = self._producer, None
        self._retry_at = monotonic() + _RETRY_SECONDS
        if reason is not None:
            self._say(up=False, reason=reason)
        if producer is not None:
            # What it still holds is in the spool: it must not send it as well.
            drop(producer, seconds=0)

    def _say(self, *, up: bool, reason: str) -> None:
        if up != self._up:
            self._report("prediction_log_up" if up else "prediction_log_down", reason)
        self._up = up


def _connect(bootstrap: str) -> KafkaProducer:
    milliseconds = _BROKER_SECONDS * 1000
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        client_id="workbook-prediction-log",
        enable_idempotence=True,
        acks="all",
        linger_ms=5,
        batch_size=128 * 1024,
        compression_type="lz4",
        max_block_ms=milliseconds,
        request_timeout_ms=milliseconds // 2,
        delivery_timeout_ms=milliseconds,
        bootstrap_timeout_ms=milliseconds,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
