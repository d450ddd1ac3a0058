"""What a backtest of fraud models reports: a record for programs, a table for people.

In: the outcomes of the folds. Out: `BacktestReport`; text.
Invariant: the table shows the numbers of the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from time import monotonic, process_time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from reference_system.training.fraud.backtest import BacktestFold, LeftOutPayments
    from reference_system.training.prequential import Fold

# Heads of columns: the names of the metrics are too long for a terminal.
_SHORT = {
    "roc_auc": "ROC AUC",
    "average_precision": "AP",
    "card_precision@100": "CP@100",
    "expected_calibration_error": "ECE",
    "brier": "Brier",
}


class TriedModel(msgspec.Struct, frozen=True, kw_only=True):
    """An estimator with a setting, and its average precision in each fold of the search, the oldest first."""

    model: str
    setting: dict[str, float | int | str]
    average_precision: tuple[float, ...]


class FoldReport(msgspec.Struct, frozen=True, kw_only=True):
    """One fold. A window's end is the day after its last."""

    train_start: date
    train_end: date
    test_start: date
    test_end: date
    train_rows: int
    train_frauds: int
    test_rows: int
    test_frauds: int
    model: str
    setting: dict[str, float | int | str]
    reason: str
    metrics: dict[str, float]
    search: tuple[TriedModel, ...]
    seconds: float
    cpu_seconds: float


class LeftOutFold(msgspec.Struct, frozen=True, kw_only=True):
    """A fold that could not be tested. A window's end is the day after its last."""

    train_start: date
    train_end: date
    test_start: date
    test_end: date
    reason: str


class BacktestReport(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest; `mean` and `spread` (the standard deviation, 0 for one fold) are over `folds`, the tested ones."""

    dataset: str
    drop_known_compromised: bool
    folds: tuple[FoldReport, ...]
    left_out: tuple[LeftOutFold, ...]
    mean: dict[str, float]
    spread: dict[str, float]
    predictions: str | None
    seconds: float
    cpu_seconds: float


def timed(
    outcomes: Iterator[BacktestFold | LeftOutPayments],
) -> Iterator[tuple[BacktestFold | LeftOutPayments, Callable[[BacktestFold], FoldReport]]]:
    """Each outcome with what makes a report of it, with the time that it took."""
    begun, cpu_begun = monotonic(), process_time()
    for outcome in outcomes:
        yield outcome, partial(_report, seconds=monotonic() - begun, cpu_seconds=process_time() - cpu_begun)
        begun, cpu_begun = monotonic(), process_time()


def left_out_fold(left_out: LeftOutPayments) -> LeftOutFold:
    """What is reported of a fold that could not be tested."""
    return LeftOutFold(**_days(left_out.fold), reason=left_out.reason)


def _days(fold: Fold) -> dict[str, date]:
    from reference_system.event_time import moment_of

    return {
        name: moment_of(getattr(fold, name)).date() for name in ("train_start", "train_end", "test_start", "test_end")
    }


def _report(outcome: BacktestFold, *, seconds: float, cpu_seconds: float) -> FoldReport:
    search = outcome.search
    return FoldReport(
        **_days(outcome.fold),
        train_rows=len(outcome.train),
        train_frauds=int(outcome.train.labels.sum()),
        test_rows=len(outcome.test),
        test_frauds=int(outcome.test.labels.sum()),
        model=outcome.fitted.name,
        setting=dict(outcome.fitted.parameters),
        reason=outcome.reason,
        metrics=dict(outcome.metrics),
        search=()
        if search is None
        else tuple(
            TriedModel(
                model=result.trial.name,
                setting=dict(result.trial.setting),
                average_precision=tuple(round(value, 4) for value in result.worth.tolist()),
            )
            for result in search.trials
        ),
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu_seconds, 2),
    )


def summary(metrics: list[dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation of each metric."""
    table = {name: np.array([of_fold[name] for of_fold in metrics]) for name in metrics[0]}
    several = len(metrics) > 1
    return (
        {name: float(values.mean()) for name, values in table.items()},
        {name: float(values.std(ddof=1)) if several else 0.0 for name, values in table.items()},
    )


def show_backtest(report: BacktestReport) -> None:
    """Print the table, and below it why each model was chosen."""
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.metrics.meanings import meanings_of

    names = list(report.mean)
    table = Table("train", "test", "payments", "frauds", "model", *(_SHORT.get(name, name) for name in names), "s")
    for fold in report.folds:
        last_train, last_test = (end - timedelta(days=1) for end in (fold.train_end, fold.test_end))
        table.add_row(
            f"{fold.train_start:%m-%d} – {last_train:%m-%d}",
            f"{fold.test_start:%m-%d} – {last_test:%m-%d}",
            f"{fold.test_rows:,}",
            str(fold.test_frauds),
            fold.model,
            *(f"{fold.metrics[name]:.4f}" for name in names),
            f"{fold.seconds:.1f}",
        )
    if len(report.folds) > 1:
        table.add_section()
        of_all = f" of {len(report.folds)} of {len(report.folds) + len(report.left_out)}" if report.left_out else ""
        table.add_row(
            f"mean{of_all}", *[""] * 4, *(f"{report.mean[name]:.4f}" for name in names), f"{report.seconds:.1f}"
        )
        table.add_row("spread", *[""] * 4, *(f"{report.spread[name]:.4f}" for name in names), "")
    console = reader_console()
    print_table(table, console=console)
    for name in names:
        for meaning in meanings_of([name]):
            console.print(f"{_SHORT.get(name, name)}: {meaning.partition(': ')[2]}", style="dim")
    for fold in report.folds:
        console.print(f"{fold.train_start}: {fold.reason}", markup=False, soft_wrap=True)
    for each in report.left_out:
        console.print(f"{each.train_start}: left out: {each.reason}", markup=False, soft_wrap=True)
    if report.predictions is not None:
        console.print(f"scores: {report.predictions}", markup=False, soft_wrap=True)
