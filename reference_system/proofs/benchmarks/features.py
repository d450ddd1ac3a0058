"""`workbook bench features`: the fifteen inputs of a whole history, at three sizes, compared with pandas.

In: a generated history, or an imported dataset. Out: seconds, CPU seconds and peak memory of `workbook features build`
as a separate process, at each size; those of the handbook's method in pandas at the smallest, in turn.
Invariant: both methods give the same values at the smallest size, or the benchmark fails; a size is a share of the
customers, so that each customer has as many payments at every size.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from reference_system.errors import StateError
from reference_system.lake import delta_lake
from reference_system.lake.datasets import dataset_paths, read_dataset_manifest
from reference_system.paths import StatePaths
from reference_system.progress import Progress
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult
from reference_system.proofs.scratch_system import scratch_folder
from reference_system.settings import ENV_PREFIX, Settings
from reference_system.use_cases.fraud.events import CHARGEBACKS, TRANSACTIONS
from reference_system.use_cases.fraud.features import INPUTS

# The number of rows of the public card data in its first four months.
ROWS, DAYS, CUSTOMERS, TERMINALS = 1_169_723, 122, 5_000, 10_000
SHARES = (1 / 16, 1 / 4, 1.0)
FEATURE_LAPS = 3
MOST_SECONDS, MOST_MB, MOST_GROWTH = 10.0, 1_536.0, 1.3
_LEAST = 1e-9  # for a size so small that only the start of the process is measured
_SEED, _FRAUDS = 13, 0.008
_START = datetime(2025, 1, 1)  # noqa: DTZ001 - naive, as the public data is; the import reads it as UTC
_POLL_SECONDS = 0.02
_MB = 1024 * 1024
_COLUMNS = {
    "transaction_id": "TRANSACTION_ID",
    "event_timestamp": "TX_DATETIME",
    "customer_id": "CUSTOMER_ID",
    "terminal_id": "TERMINAL_ID",
    "amount": "TX_AMOUNT",
    "is_fraud": "TX_FRAUD",
}


class _Lap:
    """The cost of one process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Run it to its end.

        Raises:
            StateError: if it fails, with the last line of its output.
        """
        begun = perf_counter()
        process = psutil.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.peak_mb = self.cpu_seconds = 0.0
        while process.poll() is None:
            try:
                self.peak_mb = max(self.peak_mb, process.memory_info().rss / _MB)
                times = process.cpu_times()
                self.cpu_seconds = times.user + times.system
            except psutil.Error:
                break  # it has ended
            sleep(_POLL_SECONDS)
        self.seconds = perf_counter() - begun
        said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
        if process.wait():
            last = said.splitlines()[-1] if said else "no output"
            raise StateError(f"{' '.join(command[1:6])} … failed: {last}")


def measure_features(
    settings: Settings, *, dataset: str | None = None, rows: int = ROWS, laps: int = FEATURE_LAPS, progress: Progress
) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message.

    Args:
        settings: the state directory holds the dataset and, during the benchmark, a scratch folder.
        dataset: payments to measure on; by default `rows` generated ones.
        rows: the number of generated payments.
        laps: how often everything is measured.
        progress: a callback.

    Raises:
        StateError: if there is no such dataset of payments.
    """
    progress(0.0, "generating payments" if dataset is None else f"reading the dataset {dataset}")
    payments = generated_payments(rows) if dataset is None else imported(settings, dataset)
    with scratch_folder(StatePaths(settings.state_dir).scratch, "bench-features") as folder:
        names, counts = [], []
        for number, share in enumerate(SHARES):
            progress(0.05 + 0.05 * number, f"importing {share:.1%} of the customers")
            part = share_of(payments, share)
            names.append(f"size{number}")
            counts.append(len(part))
            _import(folder, names[-1], part)
        del payments
        ours: list[list[_Lap]] = [[] for _ in SHARES]
        pandas: list[_Lap] = []
        for lap in range(laps):
            for number, name in enumerate(names):
                progress(0.2 + 0.8 * (lap + number / 4) / laps, f"lap {lap + 1} of {laps}: {counts[number]:,} rows")
                ours[number].append(_build(folder, name))
            progress(0.2 + 0.8 * (lap + 0.75) / laps, f"lap {lap + 1} of {laps}: {counts[0]:,} rows in pandas")
            pandas.append(_pandas(folder, names[0]))
        agreement = _agreement(folder, names[0])
    progress(1.0, "done")
    source = f"the dataset {dataset}" if dataset else f"generated, {DAYS} days"
    return _result(counts, ours, pandas, {"data": f"{counts[-1]:,} payments ({source})", "agreement": agreement})


def generated_payments(rows: int) -> pd.DataFrame:
    """Payments like the public data's, in its columns: whole seconds, ordered by time."""
    rng = np.random.default_rng(_SEED)
    scale = rows / ROWS
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows),
            "TX_DATETIME": pd.Timestamp(_START)
            + pd.to_timedelta(np.sort(rng.integers(0, DAYS * 86_400, rows)), unit="s"),
            "CUSTOMER_ID": rng.integers(0, max(int(CUSTOMERS * scale), 1), rows),
            "TERMINAL_ID": rng.integers(0, max(int(TERMINALS * scale), 1), rows),
            "TX_AMOUNT": rng.lognormal(3.5, 1.0, rows).round(2).clip(0.0, 10_000.0),
            "TX_FRAUD": (rng.random(rows) < _FRAUDS).astype(np.int64),
        }
    )


def imported(settings: Settings, name: str) -> pd.DataFrame:
    """The payments of a dataset, in the same columns.

    Raises:
        StateError: if there is no such dataset of payments.
    """
    if read_dataset_manifest(settings, name).use_case != "fraud":
        raise StateError(f"the dataset {name!r} has no payments", next_command="workbook data list")
    lake = dataset_paths(settings, name).lake
    fields = ["transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount"]
    payments: pd.DataFrame = delta_lake.read(lake, TRANSACTIONS, columns=fields).read_all().to_pandas()
    frauds = delta_lake.read(lake, CHARGEBACKS, columns=["transaction_id"]).read_all()["transaction_id"].to_pylist()
    payments["is_fraud"] = payments.transaction_id.isin(frauds).astype(np.int64)
    payments["event_timestamp"] = payments.event_timestamp.dt.tz_localize(None)
    payments = payments.rename(columns=_COLUMNS)
    return payments.sort_values("TX_DATETIME", kind="stable", ignore_index=True)


def share_of(payments: pd.DataFrame, share: float) -> pd.DataFrame:
    """The payments of a share of the customers, at the same share of the terminals."""
    customers: NDArray[np.int64] = pd.factorize(payments.CUSTOMER_ID)[0]
    kept: pd.DataFrame = payments[customers < max(round(share * (customers.max() + 1)), 1)]
    # Terminals are merged in the proportion of omitted payments, so that each stays as busy.
    terminals: NDArray[np.int64] = pd.factorize(kept.TERMINAL_ID)[0]
    return kept.assign(TERMINAL_ID=terminals % max(round(share * (terminals.max() + 1)), 1))


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, f"{ENV_PREFIX}STATE_DIR": str(folder / "state")}


def _workbook(folder: Path, *words: str) -> _Lap:
    return _Lap([sys.executable, "-m", "reference_system.cli", *words], _environment(folder))


def _import(folder: Path, name: str, payments: pd.DataFrame) -> None:
    file = folder / f"{name}.parquet"
    payments.to_parquet(file, index=False)
    columns = ",".join(f"{field}={column}" for field, column in _COLUMNS.items())
    words = ("--transactions", str(file), "--columns", columns, "--dataset", name)
    _workbook(folder, "data", "import", "fraud", *words)


def _build(folder: Path, name: str) -> _Lap:
    out = str(folder / f"{name}-ours.parquet")
    return _workbook(folder, *("features", "build", "fraud", "--dataset"), name, "--out", out)


def _pandas(folder: Path, name: str) -> _Lap:
    files = (str(folder / f"{name}{end}.parquet") for end in ("", "-pandas"))
    return _Lap(
        [sys.executable, "-m", "reference_system.proofs.baselines.pandas_windows", *files], _environment(folder)
    )


def _agreement(folder: Path, name: str) -> str:
    """A description of how the two methods agree.

    Raises:
        StateError: if rows without ties differ.
    """
    payments, ours, pandas = (pd.read_parquet(folder / f"{name}{end}.parquet") for end in ("", "-ours", "-pandas"))
    tied = payments.duplicated(["CUSTOMER_ID", "TX_DATETIME"], keep=False)
    tied |= payments.duplicated(["TERMINAL_ID", "TX_DATETIME"], keep=False)
    free = payments.TRANSACTION_ID[~tied]
    one, other = (found.set_index("transaction_id").loc[free, list(INPUTS)].to_numpy() for found in (ours, pandas))
    differing = int((np.abs(one - other) > 1e-6).any(axis=1).sum())  # noqa: PLR2004 - the tolerance of parity
    if differing:
        raise StateError(f"{differing} of {len(free)} rows differ from pandas: the benchmark compares unlike things")
    return f"{len(free):,} rows equal within 1e-6, {int(tied.sum()):,} left out (two of an entity in one second)"


def _result(counts: list[int], ours: list[list[_Lap]], pandas: list[_Lap], conditions: dict[str, str]) -> BenchResult:
    sizes = [f"features build, {count:,} rows" for count in counts]
    shown = [*zip(sizes, ours, strict=True), (f"the handbook's pandas, {counts[0]:,} rows", pandas)]
    figures = [
        BenchFigure(what=what, unit=unit, laps=[getattr(lap, name) for lap in laps])
        for unit, name in (("s", "seconds"), ("CPU-s", "cpu_seconds"), ("MB peak", "peak_mb"))
        for what, laps in shown
    ]
    largest = ours[-1]
    small, middle, large = (median(lap.cpu_seconds for lap in laps) for laps in ours)
    # The cost of an added row: the start of the process is in every size, so a mean would hide growth.
    lower = max((middle - small) / (counts[1] - counts[0]), _LEAST)
    upper = max((large - middle) / (counts[2] - counts[1]), _LEAST)
    return BenchResult(
        name="features",
        conditions=conditions,
        figures=figures,
        goals=[
            _at_most(f"seconds for {counts[-1]:,} rows", median(lap.seconds for lap in largest), MOST_SECONDS),
            _at_most("peak memory at that size, MB", max(lap.peak_mb for lap in largest), MOST_MB),
            _at_most("CPU-seconds of an added row, upper to lower sizes", upper / lower, MOST_GROWTH),
        ],
    )


def _at_most(what: str, found: float, bound: float) -> BenchGoal:
    return BenchGoal(what=what, found=found, bound=bound, kind="at most")
