"""The prediction log: every answer to Kafka, without an answer ever waiting for Kafka.

In: records with their topics, from the event loop and from the shadow. Out: the topics `predictions`,
`shadow-predictions` and `exposures`.
Invariant: `add` only appends to a bounded list in memory. A background thread sends; what Kafka does not accept goes
to the spool on disk and is sent again when Kafka is back. A record that was sent twice for that reason has the same
id, by which ingestion drops it. The thread outlives whatever it meets: what neither Kafka nor the disk takes is
counted as lost.

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
from reference_system.serving.prediction_log.spool import Spool, SpooledRecord
from reference_system.serving.structured_log import log_place

# Lost are those without room in memory or in the spool (dropped), and those that the disk refused (unspooled).
OUTCOMES = ("sent", "spooled", "replayed", "dropped", "unspooled")
# Records that may wait in memory: at 1,000 answers a second, as long as the client needs to find a broker gone.
_MAX_WAITING = 20_000
_SEND_EVERY_SECONDS = 0.05
_RETRY_SECONDS = 2.0
_BROKER_SECONDS = 3

CountRecords = Callable[[str, int], None]
LogReport = Callable[[str, str], None]


class PredictionLog:
    """The log of one service."""

    def __init__(self, bootstrap: str, spool: Spool, *, count: CountRecords, report: LogReport) -> None:
        """Nothing is connected before `start`."""
        self._bootstrap = bootstrap
        self._spool = spool
        self._count = count
        self._report = report
        self._waiting: deque[tuple[Topic, Event]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._producer: KafkaProducer | None = None
        self._retry_at = self._replay_at = 0.0
        self._down: set[str] = set()

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
            self._round()
        self._round()
        self._disconnect()

    def _round(self) -> None:
        """Deliver what waits."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._deliver(taken)
        except Exception as error:  # noqa: BLE001 - without this thread nothing would be logged any more, unnoticed
            self._count("dropped", len(taken))
            self._say("prediction_log_thread", up=False, reason=log_place(error))
        else:
            self._say("prediction_log_thread", up=True, reason="works again")

    def _deliver(self, taken: Sequence[tuple[Topic, Event]]) -> None:
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
        if self._spool and self._producer is not None and monotonic() >= self._replay_at:
            self._replay()

    def _replay(self) -> None:
        """Send what the spool holds; where it cannot be shortened, all of it is sent again later."""
        try:
            waiting = self._spool.records()
            failed = self._send(waiting)
            self._spool.keep(failed)
        except OSError as error:
            self._replay_at = monotonic() + _RETRY_SECONDS
            self._say("prediction_log_spool", up=False, reason=str(error))
            return
        self._count("replayed", len(waiting) - len(failed))
        self._say("prediction_log_spool", up=True, reason="there is room again")

    def _connected(self) -> bool:
        """Whether there is a producer; tries to make one every `_RETRY_SECONDS`."""
        if self._producer is None and monotonic() >= self._retry_at:
            try:
                self._producer = _connect(self._bootstrap)
            except (KafkaError, OSError) as error:
                self._disconnect(str(error))
            else:
                self._say("prediction_log", up=True, reason="connected")
        return self._producer is not None

    def _send(self, records: Sequence[SpooledRecord]) -> list[SpooledRecord]:
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

    def _to_spool(self, records: Sequence[SpooledRecord]) -> None:
        if not records:
            return
        try:
            kept = self._spool.append(records)
        except OSError as error:
            self._count("unspooled", len(records))
            self._say("prediction_log_spool", up=False, reason=str(error))
            return
        self._count("spooled", kept)
        self._count("dropped", len(records) - kept)
        self._say("prediction_log_spool", up=True, reason="there is room again")

    def _disconnect(self, reason: str | None = None) -> None:
        producer, self._producer = self._producer, None
        self._retry_at = monotonic() + _RETRY_SECONDS
        if reason is not None:
            self._say("prediction_log", up=False, reason=reason)
        if producer is not None:
            # What it still holds is in the spool: it must not send it as well.
            drop(producer, seconds=0)

    def _say(self, what: str, *, up: bool, reason: str) -> None:
        """Report that something works, or does not, when that has changed."""
        if up == (what in self._down):
            self._report(f"{what}_{'up' if up else 'down'}", reason)
        (self._down.discard if up else self._down.add)(what)


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
