"""The environment of drills: a scratch system, traffic, consumers, and the check at the end.

In: settings and a seed. Out: a stage; after each drill its report.
Invariant: a report covers everything that was ever sent on its stage, so several drills may run on one stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

import numpy as np

from reference_system.features.feast.store import apply, open_store
from reference_system.features.stream.deduplication import Outcome
from reference_system.features.stream.snapshot import digest, snapshots
from reference_system.progress import Progress
from reference_system.proofs.drills.consumer_child import ConsumerPlan, naive_tally
from reference_system.proofs.drills.consumer_processes import ConsumerFleet
from reference_system.proofs.drills.outcomes import Book, differences, lost_and_double, read_found, read_tally
from reference_system.proofs.drills.report import DrillCounts, DrillReport
from reference_system.proofs.drills.traffic import DrillEvent, Traffic
from reference_system.proofs.kafka_raw_producer import DrillProducer, RawMessage
from reference_system.proofs.ledger.ledger import recount_and_compare
from reference_system.proofs.scratch_system import Scratch, scratch_system
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import end_offsets
from reference_system.use_cases import TOPICS

# Far more than a consumer needs to catch up after a drill.
SETTLE_SECONDS = 180.0


class DrillStage:
    """A scratch system for drills."""

    def __init__(  # noqa: PLR0913 - one argument per dependency
        self,
        scratch: Scratch,
        producer: DrillProducer,
        fleet: ConsumerFleet,
        *,
        seed: int,
        progress: Progress,
        mutant: bool = False,
    ) -> None:
        """Take the open resources; with `mutant` the consumer is the naive one."""
        self.scratch = scratch
        self.producer = producer
        self.fleet = fleet
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.traffic = Traffic(seed)
        self.book = Book()
        self.progress = progress
        self.mutant = mutant
        self.began = monotonic()

    @property
    def settings(self) -> Settings:
        """The scratch system's settings."""
        return self.scratch.settings

    def plan(self, *, tasks: Collection[int] | None = None) -> ConsumerPlan:
        """A consumer of these tasks without a fault."""
        return ConsumerPlan(settings=self.settings, tasks=None if tasks is None else tuple(tasks), naive=self.mutant)

    def halves(self) -> list[tuple[int, ...]]:
        """The tasks of two consumers."""
        tasks = range(self.settings.kafka_partitions)
        return [tuple(tasks[0::2]), tuple(tasks[1::2])]

    def send(self, events: Sequence[DrillEvent]) -> None:
        """Send events and wait until they are acknowledged."""
        places = self.producer.send([event.message() for event in events])
        self.book.events += zip(places, events, strict=True)

    def send_refused(self, messages: Sequence[RawMessage]) -> None:
        """Send messages that must end on the dead-letter topics."""
        self.book.refused += self.producer.send(messages)

    def feed(self, count: int) -> None:
        """Send the next events of the traffic, including duplicate, late and malformed ones.

        The naive consumer gets only valid events, each once, so that all its errors come from kills.
        """
        if self.mutant:
            self.send(self.traffic.take(count))
            return
        self.send(self.traffic.with_trouble(count))
        self.send_refused(self.traffic.refused(count))

    def settle(self) -> None:
        """Run one consumer until it has read everything and stopped."""
        self.fleet.run_to_the_end(replace(self.plan(), until_caught_up=True), SETTLE_SECONDS)

    def digest(self) -> str:
        """The digest of everything that was consumed and of the resulting states."""
        return digest(snapshots(self.scratch.paths.stream_tasks))

    def finish(self, drill: str, faults: Counter[str], problems: Sequence[str] = ()) -> DrillReport:
        """Settle, compare and report."""
        self.progress(0.9, "consuming the remaining records")
        self.settle()
        acknowledged = end_offsets(self.settings.kafka_bootstrap, [topic.name for topic in TOPICS])
        if self.mutant:
            found, fingerprint = read_tally(naive_tally(self.settings)), ""
        else:
            # Two independent checks: the ledger does not use the drill's book, and the book does not use SQL.
            ledger = recount_and_compare(
                self.settings, progress=lambda _, text: self.progress(0.95, f"ledger: {text}")
            )
            problems = [*problems, *(each.for_person() for each in ledger.problems)]
            tasks = snapshots(self.scratch.paths.stream_tasks, with_states=False)
            found, fingerprint = read_found(self.scratch.paths.lake, tasks), ledger.digest
        lost, double = lost_and_double(self.book, found)
        return DrillReport(
            drill=drill,
            seed=self.seed,
            faults=dict(sorted(faults.items())),
            counts=DrillCounts(
                sent=self.book.sent(),
                acknowledged=sum(acknowledged.values()),
                counted=found.total(Outcome.COUNTED),
                late=found.total(Outcome.LATE),
                duplicate=found.total(Outcome.DUPLICATE),
                dead_lettered=found.total(Outcome.DEAD_LETTERED),
                lost=len(lost),
                double=len(double),
            ),
            digest=fingerprint,
            problems=[*problems, *differences(self.book, found, acknowledged)],
            seconds=round(monotonic() - self.began, 1),
        )


@contextmanager
def open_stage(  # noqa: PLR0913 - what differs between drills
    settings: Settings,
    name: str,
    *,
    seed: int,
    progress: Progress,
    mutant: bool = False,
    preload: Sequence[str] = (),
) -> Iterator[DrillStage]:
    """A separate stage, which is removed at the end.

    Args:
        settings: those of the live system, which is not touched.
        name: of the drill.
        seed: of its traffic and its faults.
        progress: called with the share done and a message.
        mutant: whether the naive consumer replaces ours.
        preload: modules of the calling program (see `ConsumerFleet`).
    """
    progress(0.0, "starting a broker")
    with (
        scratch_system(settings, name) as scratch,
        DrillProducer(scratch.broker.bootstrap) as producer,
        ConsumerFleet(scratch.paths.root, preload) as fleet,
    ):
        apply(open_store(scratch.paths))
        yield DrillStage(scratch, producer, fleet, seed=seed, progress=progress, mutant=mutant)
