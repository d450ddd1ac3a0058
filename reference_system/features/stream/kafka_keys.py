"""Which partition, and so which task, owns a key: the rule of Kafka's producers.

In: a key and the number of partitions. Out: a partition number.
Invariant: the same as the default partitioner of the Kafka clients (murmur2), whoever produced the event.
"""

from __future__ import annotations

from functools import lru_cache

from kafka.partitioner.default import murmur2


@lru_cache(maxsize=200_000)  # pure Python: some microseconds a key, and keys come again and again
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, 0 ≤ p < partitions."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions
