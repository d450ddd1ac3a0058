"""`workbook bench ingest`: the cost of exactly-once ingestion compared with a minimal and a naive consumer.

In: settings. Out: CPU microseconds per event of a bare poll-and-decode loop, of complete ingestion, and of a consumer
that pushes each event through Feast's SDK; measured in turn, lap after lap, over one broker.
Invariant: in each lap the first two read the same new events; ingestion continues with the state of the previous
laps, and its time includes the last commit of the lake.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from time import process_time

import numpy as np
from prometheus_client import CollectorRegistry

from reference_system.clock import FixedClock
from reference_system.events import encode
from reference_system.features.feast.store import apply, open_store, write_states
from reference_system.features.stream.deduplication import Outcome
from reference_system.flows.ingestion.setup import few_collections, open_loop
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.progress import Progress
from reference_system.proofs.baselines.feast_naive_push import open_naive_push
from reference_system.proofs.baselines.kafka_bare_loop import BareLoop
from reference_system.proofs.baselines.kafka_naive_consumer import NaiveConsumer
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio
from reference_system.proofs.kafka_raw_producer import DrillProducer, RawMessage
from reference_system.proofs.scratch_system import Scratch, scratch_system
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS
from reference_system.use_cases.fraud.events import TRANSACTIONS, Transaction

CUSTOMERS, TERMINALS = 5_000, 10_000
# The payments per day of this many customers in the generated world.
EVENTS_A_DAY = 9_600
NAIVE_EVENTS = 300
INGEST_LAPS = 3
# A first lap fills caches and creates files; it is not counted.
_WARM_UP = 2_000
_SEED = 7
_START = datetime(2025, 3, 3, tzinfo=UTC)
_MICROS = 1e6


def measure_ingest(
    settings: Settings, *, events: int = 60_000, laps: int = INGEST_LAPS, progress: Progress
) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    bare: list[float] = []
    ours: list[float] = []
    naive: list[float] = []
    progress(0.0, "starting a broker")
    with (
        scratch_system(settings, "bench-ingest") as scratch,
        DrillProducer(scratch.broker.bootstrap) as producer,
        _contenders(scratch) as (least, usual),
    ):
        for lap, count in enumerate([_WARM_UP, *[events] * laps]):
            share = lap / (laps + 1)
            progress(share, f"lap {lap} of {laps}: sending {count:,} events")
            producer.send(transactions(lap, count))
            _freeze()
            progress(share, f"lap {lap} of {laps}: bare loop")
            bare.append(least.read(count) / count * _MICROS)
            progress(share, f"lap {lap} of {laps}: ingestion")
            ours.append(_ingest(scratch) / count * _MICROS)
            progress(share, f"lap {lap} of {laps}: one push an event")
            naive.append(usual.read(NAIVE_EVENTS if lap else 1) * _MICROS)
    progress(1.0, "done")
    return _result(events, bare[1:], ours[1:], naive[1:])


def transactions(lap: int, count: int) -> list[RawMessage]:
    """The lap's payments, which continue in time after those of the previous lap."""
    rng = np.random.default_rng([_SEED, lap])
    days = count / EVENTS_A_DAY
    # All laps have one length; the warm-up is a short one before the first.
    first = _START + timedelta(days=days * (lap - 1)) if lap else _START - timedelta(days=days)
    seconds = np.sort(rng.uniform(0, days * 86_400, count)).tolist()
    customers = rng.integers(CUSTOMERS, size=count).tolist()
    terminals = rng.integers(TERMINALS, size=count).tolist()
    amounts = np.round(rng.lognormal(3.5, 1.0, count), 2).tolist()
    events = (
        Transaction(
            schema_version=1,
            event_timestamp=first + timedelta(seconds=at),
            transaction_id=f"x{lap}-{number:06d}",
            customer_id=f"c{customer:06d}",
            terminal_id=f"t{terminal:06d}",
            amount=amount,
        )
        for number, (at, customer, terminal, amount) in enumerate(
            zip(seconds, customers, terminals, amounts, strict=True)
        )
    )
    return [RawMessage(TRANSACTIONS.name, event.customer_id.encode(), encode(event)) for event in events]


def _freeze() -> None:
    """Freeze objects, as the ingestion process does at its start: no contender pays for the objects of the others.

    One collection over all imported objects takes as long as the bare loop takes for 30,000 events.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def _contenders(scratch: Scratch) -> Iterator[tuple[BareLoop, NaiveConsumer]]:
    bootstrap, partitions = scratch.broker.bootstrap, scratch.settings.kafka_partitions
    folder = scratch.settings.state_dir / "naive"
    apply(open_store(scratch.paths))
    with ExitStack() as stack:
        least = stack.enter_context(BareLoop(bootstrap, TRANSACTIONS, partitions))
        push = open_naive_push(folder / "feast")
        usual = NaiveConsumer(bootstrap, [TRANSACTIONS], partitions, folder / "tally.sqlite", push)
        try:
            yield least, stack.enter_context(usual)
        finally:
            # Frozen objects are not destroyed at exit, and DuckDB prints long messages about that.
            gc.unfreeze()


def _ingest(scratch: Scratch) -> float:
    """Catch up with complete ingestion; returns the CPU seconds from the first poll to the last commit."""
    metrics = IngestionMetrics(TOPICS, Outcome, registry=CollectorRegistry())
    push = partial(write_states, open_store(scratch.paths))
    clock = FixedClock(_START + timedelta(days=365))
    with open_loop(scratch.settings, push=push, metrics=metrics, clock=clock) as loop, few_collections():
        began = process_time()
        while not loop.caught_up():
            loop.step()
        loop.finish()
        return process_time() - began


def _result(events: int, bare: list[float], ours: list[float], naive: list[float]) -> BenchResult:
    unit = "CPU µs per event"
    return BenchResult(
        name="ingest",
        conditions={
            "events": f"{len(ours)} laps of {events:,} payments, {NAIVE_EVENTS} for the pushes",
            "entities": f"{CUSTOMERS:,} customers, {TERMINALS:,} terminals",
        },
        figures=[
            BenchFigure(what="bare loop: poll, decode", unit=unit, laps=bare),
            BenchFigure(what="ingestion, everything on", unit=unit, laps=ours),
            BenchFigure(what="one Feast push an event", unit=unit, laps=naive),
        ],
        goals=[
            BenchGoal(
                what="ingestion against one push an event",
                found=figure_ratio(naive, ours),
                bound=30.0,
                kind="at least",
            ),
            BenchGoal(
                what="ingestion against the bare loop", found=figure_ratio(bare, ours), bound=1 / 3, kind="at least"
            ),
        ],
    )
