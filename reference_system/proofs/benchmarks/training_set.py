"""`workbook bench training-set`: the point-in-time join through Feast compared with a minimal handwritten query.

In: settings. Out: seconds, CPU seconds and memory of a hand-written ASOF join, of Feast's API over our offline store,
and of Feast's API over its own DuckDB store; measured in turn, lap after lap, over the same files.
Invariant: all three return the same rows; the first lap checks that and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.features.feast.feature_tables import write_days
from reference_system.paths import StatePaths
from reference_system.progress import Progress
from reference_system.proofs.baselines.feast_training_join import (
    Contender,
    Lap,
    contender_log,
    facts_path,
    serve_contender,
)
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio
from reference_system.proofs.scratch_system import scratch_folder
from reference_system.settings import Settings
from reference_system.stack.log_files import tail
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, VIEWS

# A week of payments joined with the feature rows of every payment in four months: 9,600 a day.
ASKED, FACTS, DAYS = 67_240, 1_169_723, 122
CUSTOMERS, TERMINALS = 5_000, 10_000
TRAINING_SET_LAPS = 5
_SEED = 11
_START = datetime(2025, 1, 1, tzinfo=UTC)
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_SHOWN: dict[Contender, str] = {
    "by hand": "ASOF join by hand",
    "ours": "Feast, our store",
    "feast": "Feast, its DuckDB store",
}

ContenderJoin = Callable[[], Lap]


def measure_training_set(
    settings: Settings, *, asked: int = ASKED, facts: int = FACTS, laps: int = TRAINING_SET_LAPS, progress: Progress
) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    contenders = get_args(Contender)
    measured: dict[Contender, list[Lap]] = {contender: [] for contender in contenders}
    progress(0.0, f"writing {facts:,} feature rows for each of two views")
    scratch = StatePaths(settings.state_dir).scratch
    with scratch_folder(scratch, "bench-training-set") as folder, ExitStack() as stack:
        write_tables(folder, asked=asked, facts=facts)
        progress(0.05, "starting a process for each way of joining")
        started = {contender: stack.enter_context(_process(contender, folder)) for contender in contenders}
        for lap in range(laps + 1):
            for contender, (_, join) in started.items():
                progress(0.1 + 0.9 * lap / (laps + 1), f"lap {lap} of {laps}: {_SHOWN[contender]}")
                measured[contender].append(join())
        kept = {contender: pq.read_table(folder / f"{contender}.parquet") for contender in contenders}
    progress(1.0, "done")
    counted = {contender: found[1:] for contender, found in measured.items()}
    grown = {contender: measured[contender][-1].peak_mb - before for contender, (before, _) in started.items()}
    differing = sum(rows_differing(kept["feast"], kept[other]) for other in ("ours", "by hand"))
    return _result(asked, facts, counted, grown, differing)


def write_tables(folder: Path, *, asked: int, facts: int) -> None:
    """Write feature rows of two views, one for each payment, and the last payments as requested rows."""
    rng = np.random.default_rng(_SEED)
    # Distinct timestamps: the handwritten query has no rule for rows of one entity at one time.
    times = micros(_START) + np.sort(rng.integers(0, DAYS * MICROS_PER_DAY - facts, facts)) + np.arange(facts)
    at = pa.array(times, _TIMESTAMP)
    keys = {
        CUSTOMER_ACTIVITY: _keys("c", rng.integers(CUSTOMERS, size=facts)),
        TERMINAL_RISK: _keys("t", rng.integers(TERMINALS, size=facts)),
    }
    for view in VIEWS:
        columns = {view.entity: keys[view], "event_timestamp": at, "created_timestamp": at}
        table = pa.table({**columns, **{name: rng.random(facts) for name in view.features}})
        end = moment_of(micros(_START) + DAYS * MICROS_PER_DAY)
        write_days(facts_path(folder, view).parent, table, _START, end)
    week = slice(facts - asked, facts)
    payments = {view.entity: keys[view][week] for view in VIEWS}
    labels = rng.integers(2, size=asked)
    pq.write_table(
        pa.table({"payment": np.arange(asked), **payments, "event_timestamp": at[week], "label": labels}),
        folder / "asked.parquet",
    )


def rows_differing(one: pa.Table, other: pa.Table) -> int:
    """How many requested rows have different values; the order of rows does not matter."""
    one, other = (table.sort_by("payment").to_pandas() for table in (one, other))
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return max(len(one), len(other))
    return int(((one != other) & ~(one.isna() & other.isna())).any(axis=1).sum())


def _keys(letter: str, numbers: np.ndarray) -> pa.Array:
    names = pa.array([f"{letter}{number:06d}" for number in range(int(numbers.max()) + 1)])
    return names.take(pa.array(numbers))


@contextmanager
def _process(contender: Contender, folder: Path) -> Iterator[tuple[float, ContenderJoin]]:
    """A process that joins: its memory before the first join in MB, and a function for one join."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve_contender, args=(contender, folder, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends if the process dies

    def answer() -> Any:  # noqa: ANN401 - what `serve_contender` sends
        try:
            return ours.recv()
        except (EOFError, OSError):
            process.join()
            last = " ".join(tail(contender_log(folder, contender), 1))
            raise StateError(f"'{_SHOWN[contender]}' ended with code {process.exitcode}: {last}") from None

    def join() -> Lap:
        with suppress(OSError):  # if the process is dead, `answer` raises
            ours.send(None)
        lap: Lap = answer()
        return lap

    try:
        before: float = answer()
        yield before, join
    finally:
        ours.close()
        process.terminate()
        process.join()


def _result(
    asked: int,
    facts: int,
    laps: Mapping[Contender, Sequence[Lap]],
    grown: Mapping[Contender, float],
    differing: int,
) -> BenchResult:
    wall = {contender: [lap.wall_seconds for lap in found] for contender, found in laps.items()}
    cpu = {contender: [lap.cpu_seconds for lap in found] for contender, found in laps.items()}
    peaks = {contender: f"peak of the process {found[-1].peak_mb:,.0f} MB" for contender, found in laps.items()}
    return BenchResult(
        name="training-set",
        conditions={
            "rows": f"{asked:,} requested rows against {facts:,} feature rows in each of two views",
            "memory": "MB: how far the process grew over its size before the first join",
        },
        figures=[
            *(BenchFigure(what=shown, unit="s", laps=wall[name]) for name, shown in _SHOWN.items()),
            *(BenchFigure(what=shown, unit="CPU s", laps=cpu[name]) for name, shown in _SHOWN.items()),
            *(
                BenchFigure(what=shown, unit="MB", laps=[round(grown[name])], note=peaks[name])
                for name, shown in _SHOWN.items()
            ),
        ],
        goals=[
            *(
                BenchGoal(
                    what=f"our store's {what} over that of the join by hand",
                    found=figure_ratio(seconds["ours"], seconds["by hand"]),
                    bound=2.0,
                    kind="at most",
                )
                for what, seconds in (("time", wall), ("CPU time", cpu))
            ),
            BenchGoal(what="rows that differ from those of Feast's own", found=differing, bound=0, kind="at most"),
        ],
    )
