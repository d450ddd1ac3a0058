"""`workbook backtest fraud`: choose, fit and test fraud models week after week, as they would have been used.

In: a dataset with labels, a first day, the lengths of the windows. Out: the metrics of each fold and their spread,
which model was chosen and why, and the scores of all tested payments if a file is named.
Invariant: what is scored in one fold is scored once; a file of scores is replaced whole or not at all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, process_time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from reference_system.commands.backtest.fraud_report import FoldReport, LeftOutFold
    from reference_system.settings import Settings
    from reference_system.training.fraud.backtest import BacktestPlan, DatasetPayments

app = typer.Typer()

# The share of the progress bar that reading takes.
_READING = 0.15


@app.command("fraud")
def fraud(  # noqa: PLR0913, PLR0917 - the protocol
    dataset: Annotated[str, typer.Option("--dataset", help="A dataset (`workbook data list`), or live.")],
    train_start: Annotated[
        datetime,
        typer.Option("--train-start", formats=["%Y-%m-%d"], help="The first day of the first training window."),
    ],
    train_days: Annotated[int, typer.Option("--train-days", min=1, help="How long a fold learns.")] = 7,
    delay_days: Annotated[int, typer.Option("--delay-days", min=0, help="How long it waits for labels.")] = 7,
    test_days: Annotated[int, typer.Option("--test-days", min=1, help="How long it is tested.")] = 7,
    folds: Annotated[
        int, typer.Option("--folds", min=1, help="How many; each begins a test window later than the one before.")
    ] = 1,
    model: Annotated[
        str | None, typer.Option("--model", help="Only this estimator; by default one is chosen in each fold.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Write transaction_id, score; .parquet, .csv or .tsv.")
    ] = None,
    *,
    drop_known_compromised: Annotated[
        bool, typer.Option("--drop-known-compromised", help="Cards of known frauds leave the test.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """ROC AUC, average precision and card precision@100 of each fold, with the model that was chosen before it."""
    from reference_system.commands.backtest.fraud_report import BacktestReport, show_backtest, summary
    from reference_system.event_time import micros
    from reference_system.settings import load_settings
    from reference_system.training.fraud.backtest import BacktestPlan
    from reference_system.training.prequential import Protocol
    from reference_system.use_cases.fraud.model import CANDIDATES

    begun, cpu_begun = monotonic(), process_time()
    _require_names(model, predictions)
    plan = BacktestPlan(
        train_start=micros(train_start.replace(tzinfo=UTC)),
        protocol=Protocol(train_days=train_days, delay_days=delay_days, test_days=test_days, folds=folds),
        drop_known=drop_known_compromised,
        names=CANDIDATES if model is None else (model,),
    )
    reports, left_out = _run(load_settings(), dataset, plan, predictions)
    mean, spread = summary([report.metrics for report in reports])
    done = BacktestReport(
        dataset=dataset,
        drop_known_compromised=drop_known_compromised,
        folds=tuple(reports),
        left_out=tuple(left_out),
        mean=mean,
        spread=spread,
        predictions=None if predictions is None else str(predictions),
        seconds=round(monotonic() - begun, 2),
        cpu_seconds=round(process_time() - cpu_begun, 2),
    )
    if as_json:
        typer.echo(msgspec.json.encode(done))
    else:
        show_backtest(done)


def _run(
    settings: Settings, dataset: str, plan: BacktestPlan, predictions: Path | None
) -> tuple[list[FoldReport], list[LeftOutFold]]:
    """Backtest every fold, and write the scores if they are asked for."""
    import numpy as np
    import pyarrow as pa

    from reference_system.commands.backtest.fraud_report import left_out_fold, timed
    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.commands.terminal.table_files import write_table
    from reference_system.training.fraud.backtest import Backtest, LeftOutPayments

    reports: list[FoldReport] = []
    left_out: list[LeftOutFold] = []
    places, scores = [], []
    with progress_bar() as progress:
        progress(0.0, f"reading {dataset}")
        ids, payments = read_payments(settings, dataset)
        folds = plan.protocol.folds

        def say(text: str) -> None:
            done = len(reports) + len(left_out)
            progress(_READING + (1.0 - _READING) * done / folds, f"fold {done + 1} of {folds}: {text}")

        for outcome, report in timed(Backtest(payments=payments, plan=plan, seed=settings.seed, say=say).run()):
            if isinstance(outcome, LeftOutPayments):
                left_out.append(left_out_fold(outcome))
                continue
            reports.append(report(outcome))
            places.append(outcome.places)
            scores.append(outcome.scores)
        progress(1.0, "done")
    if predictions is not None:
        table = pa.table({"transaction_id": ids.take(np.concatenate(places)), "score": np.concatenate(scores)})
        write_table(predictions, table)
    return reports, left_out


def read_payments(settings: Settings, dataset: str) -> tuple[pa.Array, DatasetPayments]:
    """The payments of a dataset with their fifteen inputs, and their ids as they were in the file.

    Raises:
        StateError: if there is no such dataset, or it has no payments.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from reference_system.commands.terminal.table_files import with_own_types
    from reference_system.errors import StateError
    from reference_system.features.history.fraud_inputs import fraud_inputs
    from reference_system.features.history.model_inputs import events_in_order
    from reference_system.feedback.duckdb_fraud_labels import dispute_times
    from reference_system.lake.datasets import dataset_for, order_folder
    from reference_system.training.fraud.backtest import NEVER_REPORTED, DatasetPayments
    from reference_system.use_cases.fraud.events import TRANSACTIONS
    from reference_system.use_cases.fraud.features import INPUTS

    paths, manifest = dataset_for(settings, dataset, "fraud")
    order = order_folder(paths)
    inputs = fraud_inputs(paths.lake, order)
    if not inputs.num_rows:
        raise StateError(f"the dataset {dataset!r} has no payments", next_command="workbook data list")
    events = events_in_order(paths.lake, TRANSACTIONS, order)
    disputes = dispute_times(paths.lake).combine_chunks()
    found = pc.index_in(inputs["transaction_id"].combine_chunks(), disputes["transaction_id"].combine_chunks())
    reported, withdrawn = (
        pc.take(disputes[name].combine_chunks(), found).fill_null(NEVER_REPORTED).to_numpy(zero_copy_only=False)
        for name in ("reported", "withdrawn")
    )
    cards = events["customer_id"].combine_chunks().dictionary_encode().indices
    payments, places = DatasetPayments.in_order(
        inputs=np.column_stack([inputs[name].to_numpy() for name in INPUTS]).astype(np.float32),
        reported=reported,
        withdrawn=withdrawn,
        cards=cards.cast(pa.int64()).to_numpy(),
        times=events["event_timestamp"].cast(pa.int64()).to_numpy(),
    )
    ids = with_own_types(inputs.select(["transaction_id"]), manifest)["transaction_id"].combine_chunks()
    return ids.take(pa.array(places)), payments


def _require_names(model: str | None, predictions: Path | None) -> None:
    """Refuse what cannot work before the work begins."""
    from reference_system.commands.terminal.table_files import require_table
    from reference_system.errors import TrainingError
    from reference_system.use_cases.fraud.model import CANDIDATES

    if model is not None and model not in CANDIDATES:
        raise TrainingError(f"there is no model {model!r} (there are {', '.join(CANDIDATES)})")
    if predictions is not None:
        require_table(predictions)
