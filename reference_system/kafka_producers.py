"""Producers: the options that all of ours share, and an end that does not hang.

In: the broker's `host:port`. Out: a producer that loses nothing and gives up after seconds.
Invariant: `drop` returns within seconds, whatever happened to the broker.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

# The broker is on this machine: an answer that takes longer than this will not come.
DELIVERY_SECONDS = 5.0
_CLOSE_SECONDS = 1.0


def durable_producer(
    bootstrap: str,
    client_id: str,
    **options: Any,  # noqa: ANN401 - the client's own
) -> KafkaProducer:
    """An idempotent producer; after `send`, call `flush(timeout=…)` and look at every future.

    Args:
        bootstrap: the broker's `host:port`.
        client_id: what the broker's log calls it.
        options: more of the client's own.

    Raises:
        KafkaError: if the broker does not answer.
    """
    milliseconds = int(DELIVERY_SECONDS * 1000)
    return KafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        max_block_ms=milliseconds,
        request_timeout_ms=milliseconds * 4 // 5,
        delivery_timeout_ms=milliseconds,
        bootstrap_timeout_ms=milliseconds,
        allow_auto_create_topics=False,
        metrics_enabled=False,
        **options,
    )


def drop(producer: KafkaProducer, *, seconds: float = _CLOSE_SECONDS) -> None:
    """Close a producer, after at most so many seconds, delivered or not; what was not is not sent any more.

    The client's own `close` flushes first, and gives up with the flush: it raises and leaves its thread running when
    the broker was killed with a batch in flight.
    """
    try:
        producer.close(timeout=seconds)
    except KafkaError:
        producer._sender.force_close()  # noqa: SLF001 - it has no public name
        producer.close(timeout=_CLOSE_SECONDS)
