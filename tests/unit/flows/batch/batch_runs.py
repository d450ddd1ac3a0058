"""One run of a small batch, as the flows do it; as a program of its own it gets SIGKILL at the point that is named.

A program and no fork: a test run has threads, and what they hold at that moment stays held in a forked child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from reference_system.flows.batch.partitions import BatchSource, Partitions, Passed, Written, open_draft, source_of

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("score", pa.float64())])
NAMES = ("a", "b", "empty", "c")
ROWS = [("a0", 0.0), ("a1", 1.0), ("b0", 0.0), ("b1", 1.0), ("c0", 0.0), ("c1", 1.0)]
POINTS = ["partition made", "partition finished"] * len(NAMES) + ["batch assembled"]


def source(inputs: str = "1") -> BatchSource:
    day = datetime(2025, 3, 1, tzinfo=UTC)
    return BatchSource(use_case="fraud", event_timestamp=day, model_version="3", model="m", inputs=inputs)


def part(name: str) -> pa.Table:
    """From CSV: of Python's values pyarrow makes a table with pandas, whose import takes longer than a run."""
    rows = "".join(f"{name}{i},{i}\n" for i in range(0 if name == "empty" else 2))
    return csv.read_csv(
        BytesIO(f"key,score\n{rows}".encode()), convert_options=csv.ConvertOptions(column_types=SCHEMA)
    )


def run(target: Path, *, of: BatchSource | None = None, passed: Passed = lambda _: None) -> tuple[Written, list[str]]:
    """One run as the flows do it; what it wrote, and the partitions that it made."""
    made: list[str] = []

    def make(name: str) -> pa.Table:
        made.append(name)
        return part(name)

    of = of or source()
    with open_draft(target, "score-batch fraud") as draft:
        if source_of(target) == of:
            return draft.already_done(), made
        if draft.source != of:
            draft.clear()
            draft.begin(of)
        partitions = Partitions(names=NAMES, schema=SCHEMA, make=make)
        return draft.finish(partitions, passed=passed, tell=lambda _: None), made


def at(passage: int, interrupt: Callable[[], object]) -> Passed:
    """Interrupt at the n-th point that is passed."""
    passed: list[str] = []

    def pass_by(point: str) -> None:
        passed.append(point)
        if len(passed) == passage:
            interrupt()

    return pass_by


def killed_at(passage: int, target: Path) -> int:
    """The exit code of a run in a process of its own that gets SIGKILL there."""
    return subprocess.run([sys.executable, __file__, target, str(passage)], check=False, timeout=120).returncode


if __name__ == "__main__":
    run(Path(sys.argv[1]), passed=at(int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL)))
