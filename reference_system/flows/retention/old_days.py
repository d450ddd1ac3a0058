"""Old days: what lies further back than `keep_days` of event time goes, everywhere at once.

In: the lake, the topics, the days' files of feature tables, batches and reports. Out: the same, from one midnight on.
Invariant: the ledger still adds up. The lake's tables keep the counts of what they drop, and a topic loses its records
before the lake loses their rows: what the broker no longer has, the lake tells for `_TOPICS_LEAD` more.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from reference_system.events import Topic
from reference_system.lake import delta_lake, delta_upkeep
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import delete_before
from reference_system.use_cases import DECLARATIONS, TOPICS

_KEPT_FOR_EVER = tuple(topic.name for case in DECLARATIONS.values() for topic in case.kept_topics)
# A recount of what the broker has needs the rows before it: the deduplication horizon of seven days, with air.
_TOPICS_LEAD = timedelta(days=30)


def first_kept(settings: Settings, now: datetime) -> datetime:
    """The midnight from which on everything is kept; the generated history is never cut into before it has passed."""
    keep = timedelta(days=max(settings.keep_days, settings.history_days))
    return max(settings.history_start, now.replace(hour=0, minute=0, second=0, microsecond=0) - keep)


def drop_old_days(settings: Settings, now: datetime) -> int:
    """Drop what is older than `first_kept`; how many rows of the lake that were.

    Raises:
        ServiceError: if the broker does not answer; then nothing was dropped from the lake.
    """
    paths = StatePaths(settings.state_dir)
    first = first_kept(settings, now)
    if first <= settings.history_start:
        return 0
    old = [topic for topic in TOPICS if topic.name not in _KEPT_FOR_EVER and delta_lake.exists(paths.lake, topic)]
    delete_before(settings.kafka_bootstrap, {topic.name: _needless(paths.lake, topic, first) for topic in old})
    rows = sum(delta_upkeep.drop_days(paths.lake, topic, first) for topic in old)
    _remove_files(_days_files(paths), first)
    return rows


def _needless(lake: Path, topic: Topic, first: datetime) -> dict[int, int]:
    """For each partition the first offset that a recount still needs."""
    needed = delta_upkeep.first_offsets(lake, topic, first + _TOPICS_LEAD)
    return {part: needed.get(part, last + 1) for part, last in delta_lake.committed_offsets(lake, topic).items()}


def _days_files(paths: StatePaths) -> Iterable[Path]:
    """Files that begin with the day that they are about."""
    for folder in (paths.feature_tables, paths.batch):
        yield from folder.glob("*/????-??-??.parquet")
    yield from paths.reports.glob("????-??-??T*")


def _remove_files(files: Iterable[Path], first: datetime) -> None:
    for file in files:
        if file.name < f"{first:%Y-%m-%d}":
            file.unlink(missing_ok=True)
