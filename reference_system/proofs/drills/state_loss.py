"""Drill on the state: task files are deleted, and the rebuilt state must be equal byte by byte.

In: a stage, a number of times. Out: a report.
Invariant: the lake and the topics alone determine the state.
"""

from __future__ import annotations

from collections import Counter

from reference_system.features.stream.rebuild import remove_sqlite
from reference_system.features.stream.snapshot import task_files
from reference_system.flows.ingestion.state_replay import replay_topics
from reference_system.proofs.drills.report import DrillReport
from reference_system.proofs.drills.stage import DrillStage

_EVENTS = 200


def state_loss(stage: DrillStage, *, times: int) -> DrillReport:
    """Some or all task files are deleted in turn; each time the rebuilt state must have the same digest."""
    faults: Counter[str] = Counter()
    problems: list[str] = []
    for number in range(times):
        stage.progress(0.85 * number / times, f"state lost {number} of {times} times")
        stage.feed(_EVENTS)
        stage.settle()
        before = stage.digest()
        lost = _delete(stage, everything=number % 2 == 1)
        faults["task files deleted"] += len(lost)
        stage.settle()
        if stage.digest() != before:
            problems.append(f"after tasks {lost} were lost, the state that was built from the lake differs")
    stage.progress(0.85, "consuming the topics again from their beginning")
    again = replay_topics(stage.settings, lambda *_: None, replace=lambda _: True)
    faults["records consumed again"] = again.records
    if not again.is_equal:
        problems.append("the state that was built from the topics differs from that of the stream")
    return stage.finish("state-loss", faults, problems)


def _delete(stage: DrillStage, *, everything: bool) -> list[int]:
    files = task_files(stage.scratch.paths.stream_tasks)
    count = len(files) if everything else int(stage.rng.integers(1, len(files)))
    lost = sorted(int(task) for task in stage.rng.choice(list(files), size=count, replace=False))
    for task in lost:
        remove_sqlite(files[task])
    return lost
