"""The ledger: acknowledged = counted + late + dead-lettered + duplicates, and the states follow from those records.

In: a system whose broker runs; its consumer may run, too. Out: a `LedgerReport`.
Invariant: the system is not changed. Each task file is copied as of one time; raw records and dead letters of the
broker, rows of the lake and values of the online store are compared as of those times.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reference_system.errors import StateError
from reference_system.event_time import micros
from reference_system.events import Topic
from reference_system.features.stream.snapshot import TaskSnapshot, digest, snapshot, task_file, task_files
from reference_system.features.stream.state_rows import topics_of
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.lake import delta_lake, delta_upkeep
from reference_system.lake.duckdb_connection import connection
from reference_system.paths import StatePaths
from reference_system.progress import Progress
from reference_system.proofs.ledger import duckdb_recount as recount
from reference_system.proofs.ledger import duckdb_state_recount as state_recount
from reference_system.proofs.ledger.duckdb_counts import REBUILD, topic_ledger
from reference_system.proofs.ledger.duckdb_recount import Duck, PartitionSpan
from reference_system.proofs.ledger.kafka_topic_reader import dead_letters, raw_records
from reference_system.proofs.ledger.report import LedgerProblem, LedgerReport, StateLedger, TopicLedger, problem
from reference_system.proofs.ledger.states import StateComparison, compare_online, compare_view
from reference_system.proofs.scratch_system import scratch_folder
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS, VIEWS

# A running consumer commits to the lake every five seconds.
_LAKE_SECONDS = 20.0
_LAKE_POLL_SECONDS = 0.5
_MEMORY_MB = 1024
# Shares of the work, for the progress bar.
_READ, _STATES = 0.7, 0.95


def recount_and_compare(
    settings: Settings, *, progress: Progress = lambda *_: None, lake_seconds: float = _LAKE_SECONDS
) -> LedgerReport:
    """Recount and compare.

    Args:
        settings: the system.
        progress: called with the share done (0 to 1) and a message.
        lake_seconds: how long to wait for the lake to reach the states.

    Raises:
        ServiceError: if the broker does not answer.
        StateError: if there is no stream state, or it cannot be read.
    """
    began = time.monotonic()
    paths = StatePaths(settings.state_dir)
    with TopicLog(settings.kafka_bootstrap) as log, _copies(paths, settings.kafka_partitions) as copies:
        tasks = [snapshot(path, with_states=False) for path in task_files(copies).values()]
        progress(0.0, "waiting for the lake")
        problems = [*_absent(tasks, settings), *_lake_behind(paths.lake, tasks, lake_seconds)]
        with connection(copies, memory_mb=_MEMORY_MB, any_order=True) as duck:
            audit = _Audit(settings=settings, log=log, duck=duck, copies=copies, tasks=tasks, progress=progress)
            topics = audit.topics()
            states = audit.states()
        fingerprint = digest(snapshot(path) for path in task_files(copies).values())
    progress(1.0, "done")
    return LedgerReport(
        topics=topics,
        states=states,
        digest=fingerprint,
        problems=[*problems, *audit.problems],
        seconds=round(time.monotonic() - began, 2),
    )


@dataclass(slots=True, kw_only=True)
class _Audit:
    """One run: its sources, and the problems found."""

    settings: Settings
    log: TopicLog
    duck: Duck
    copies: Path
    tasks: Sequence[TaskSnapshot]
    progress: Progress
    problems: list[LedgerProblem] = field(default_factory=list)
    kept_from: dict[str, int] = field(default_factory=dict)  # by topic, the first time that the lake keeps

    def topics(self) -> list[TopicLedger]:
        """The ledger of each topic."""
        lake = StatePaths(self.settings.state_dir).lake
        # Dead letters first: ingestion continues, and the broker has the record of each of them by then.
        for topic in TOPICS:
            recount.load_dead_letters(self.duck, topic, dead_letters(self.log, topic))
        spans = {topic.name: _spans(self.log, topic, self.tasks) for topic in TOPICS}
        total = max(sum(span.taken_to - span.read_from for each in spans.values() for span in each), 1)
        lines: list[TopicLedger] = []
        done = 0
        for topic in TOPICS:
            ranges = {span.part: (span.read_from, span.taken_to) for span in spans[topic.name]}
            count = 0
            for count in recount.load_records(self.duck, topic, raw_records(self.log, topic, ranges)):
                self.progress(_READ * (done + count) / total, f"{topic.name}: {count:,} records")
            done += count
            recount.load_lake(self.duck, lake, topic, state_recount.needed_fields(VIEWS, topic))
            dropped = delta_upkeep.dropped(lake, topic)
            recount.load_dropped(self.duck, topic, dropped)
            self.kept_from[topic.name] = micros(dropped.before)
            recount.classify_records(self.duck, topic, spans[topic.name])
            totals = _totals(self.tasks, topic)
            line, found = topic_ledger(self.duck, topic, spans[topic.name], totals, dropped)
            lines.append(line)
            self.problems += found
        return lines

    def states(self) -> StateLedger:
        """Compare every state with the recount and with the online store."""
        state_recount.load_facts(self.duck, VIEWS, TOPICS)
        state_recount.load_limits(self.duck, self.tasks)
        whole = StateComparison()
        for place, view in enumerate(VIEWS):
            self.progress(_READ + (_STATES - _READ) * place / len(VIEWS), f"states of {view.name}")
            kept_from = max(self.kept_from[topic] for topic in topics_of(view))
            found = StateComparison()
            for task, expected in state_recount.expected_states(self.duck, view, self.settings.kafka_partitions):
                path = task_file(self.copies, task)
                if path.exists():
                    found.add(compare_view(path, view, expected, kept_from=kept_from))
            self.problems += found.problems(view.name)
            whole.add(found)
        self.progress(_STATES, "online store")
        online = compare_online(StatePaths(self.settings.state_dir), self.copies)
        self.problems += online.problems()
        return StateLedger(
            compared=whole.compared,
            different=len(whole.different),
            missing=len(whole.missing),
            extra=len(whole.extra),
            aged=whole.aged,
            online_compared=online.compared,
            online_different=len(online.different),
            online_in_flight=online.in_flight,
        )


@contextmanager
def _copies(paths: StatePaths, tasks: int) -> Iterator[Path]:
    """A temporary folder with copies of the task files, each as of one time."""
    found = task_files(paths.stream_tasks)
    if not found:
        raise StateError(f"there is no stream state in {paths.stream_tasks}", next_command="make up")
    with scratch_folder(paths.scratch, "verify") as folder:
        for task, path in found.items():
            if task < tasks:
                _copy(path, task_file(folder, task))
        yield folder


def _copy(path: Path, copy: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.DatabaseError as error:
        raise StateError(f"{path} cannot be read ({error})", next_command=REBUILD) from error


def _absent(tasks: Sequence[TaskSnapshot], settings: Settings) -> list[LedgerProblem]:
    known = {task.task for task in tasks}
    absent = [f"task {task}" for task in range(settings.kafka_partitions) if task not in known]
    return problem("no state", "ingestion", absent, then="workbook restart ingestion")


def _lake_behind(lake: Path, tasks: Sequence[TaskSnapshot], seconds: float) -> list[LedgerProblem]:
    """Wait until the lake has reached the states; return the topics where it does not in time."""
    deadline = time.monotonic() + seconds
    waited_for: Sequence[Topic] = TOPICS
    while True:
        behind = {}
        for topic in waited_for:
            reached = delta_lake.committed_offsets(lake, topic)
            places = {task.task: task.positions.get(topic.name, 0) for task in tasks}
            short = [
                f"partition {part}: {position - reached.get(part, -1) - 1:,} of {position:,} records"
                for part, position in places.items()
                if reached.get(part, -1) + 1 < position
            ]
            if short:
                behind[topic.name] = short
        if not behind or time.monotonic() >= deadline:
            break
        waited_for = [topic for topic in TOPICS if topic.name in behind]
        time.sleep(_LAKE_POLL_SECONDS)
    return [
        each
        for name, short in behind.items()
        for each in problem("not in the lake yet", name, short, then="workbook restart ingestion")
    ]


def _spans(log: TopicLog, topic: Topic, tasks: Sequence[TaskSnapshot]) -> list[PartitionSpan]:
    extent = log.extent(topic.name)
    positions = {task.task: task.positions.get(topic.name, 0) for task in tasks}
    spans = []
    for part in sorted(extent.keys() | positions.keys()):
        first, end = extent.get(part, (0, 0))
        position = positions.get(part, 0)
        taken = [task.taken.get((part, topic.name), 0) for task in tasks]
        spans.append(
            PartitionSpan(
                part=part, read_from=first, read_to=position, taken_to=min(max(position, *taken), end), log_end=end
            )
        )
    return spans


def _totals(tasks: Sequence[TaskSnapshot], topic: Topic) -> dict[tuple[int, str], int]:
    return {
        (task.task, str(outcome)): count
        for task in tasks
        for (name, outcome), count in task.totals.items()
        if name == topic.name
    }
