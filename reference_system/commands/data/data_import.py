"""`workbook data import`: a file of payments or of ratings into a dataset.

In: a Parquet or CSV file or a folder of parts, and what its reader says about it. Out: a dataset beside the live
system, and what was found in the file.
Invariant: one import or removal at a time; a refused import writes nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from reference_system.dataset_import.importing import ImportRequest
    from reference_system.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Import a Parquet or CSV file, or a folder of parts, into a dataset.")

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_UNIT_WORDS = {"seconds": "1s", "minutes": "1m", "hours": "1h", "days": "1d", "weeks": "7d"}
_MOST = timedelta(days=3_650)
_QUIET_SECONDS = 10.0


class RefundChoice(StrEnum):
    """What becomes of payments with amounts below 0."""

    SKIP = "skip"
    KEEP = "keep"


ColumnOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,…",
        help="Where the file's names are not ours; may be given again.",
        show_default="our names",
    ),
]
Dataset = Annotated[str, typer.Option("--dataset", help="Its name: a-z, 0-9, _ and -.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave bad rows out instead of refusing the file.")]
Separator = Annotated[
    str | None,
    typer.Option("--separator", help="Between the columns of CSV: ';', '|', '::', tab.", show_default="guessed"),
]
NoHeader = Annotated[bool, typer.Option("--no-header", help="The CSV has none: its columns are called 1, 2, 3.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of CSV, like latin-1.", show_default="UTF-8")]
TimeUnit = Annotated[
    str | None,
    typer.Option("--time-unit", help="Times are numbers of: seconds, minutes, hours, days, or steps like 15m."),
]
TimeOrigin = Annotated[
    str | None, typer.Option("--time-origin", metavar="DATE", help="From when on they are counted, like 2024-01-01.")
]


@app.command("fraud")
def import_fraud(  # noqa: PLR0913 - the options of the verb
    transactions: Annotated[
        Path, typer.Option("--transactions", help="Parquet, CSV or a folder of parts; a row for each payment.")
    ],
    dataset: Dataset,
    columns: ColumnOptions = None,
    label_delay: Annotated[
        str, typer.Option("--label-delay", help="After how long a fraud is known: 7d, 36h, 90m, 0s.")
    ] = "7d",
    refunds: Annotated[
        RefundChoice | None,
        typer.Option("--refunds", help="Amounts below 0: leave them out, or keep them.", show_default="refused"),
    ] = None,
    *,
    separator: Separator = None,
    encoding: Encoding = None,
    time_unit: TimeUnit = None,
    time_origin: TimeOrigin = None,
    row_ids: Annotated[
        bool, typer.Option("--row-ids", help="The file has no transaction_id: the number of the row is one.")
    ] = False,
    no_header: NoHeader = False,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Payments with labels: transaction_id, event_timestamp, customer_id, terminal_id, amount, is_fraud."""
    from reference_system.dataset_import.columns.readings import ColumnReading
    from reference_system.dataset_import.files.csv_files import CsvOptions
    from reference_system.dataset_import.importing import ImportRequest

    request = ImportRequest(
        use_case="fraud",
        file=transactions,
        columns=",".join(columns or []),
        dataset=dataset,
        label_delay=duration_of("--label-delay", label_delay),
        skip_bad_rows=skip_bad_rows,
        csv=CsvOptions(separator=separator, has_header=not no_header, encoding=encoding),
        reading=ColumnReading(
            time_unit=unit_of(time_unit),
            time_origin=moment_of_day(time_origin),
            refunds=None if refunds is None else refunds.value,
            has_row_ids=row_ids,
        ),
    )
    _run_import(request, as_json=as_json)


@app.command("recommendation")
def import_recommendation(  # noqa: PLR0913 - the options of the verb
    interactions: Annotated[
        Path, typer.Option("--interactions", help="Parquet, CSV or a folder of parts; a row for each rating.")
    ],
    dataset: Dataset,
    columns: ColumnOptions = None,
    rating_scale: Annotated[
        str, typer.Option("--rating-scale", metavar="LOW:HIGH", help="The worst rating and the best.")
    ] = "0:5",
    *,
    separator: Separator = None,
    encoding: Encoding = None,
    time_unit: TimeUnit = None,
    time_origin: TimeOrigin = None,
    implicit: Annotated[
        bool, typer.Option("--implicit", help="The file has no ratings: every row is an interaction.")
    ] = False,
    no_header: NoHeader = False,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Ratings or interactions: user_id, item_id, event_timestamp, rating."""
    from reference_system.dataset_import.columns.readings import ColumnReading
    from reference_system.dataset_import.files.csv_files import CsvOptions
    from reference_system.dataset_import.importing import ImportRequest

    request = ImportRequest(
        use_case="recommendation",
        file=interactions,
        columns=",".join(columns or []),
        dataset=dataset,
        label_delay=None,
        skip_bad_rows=skip_bad_rows,
        csv=CsvOptions(separator=separator, has_header=not no_header, encoding=encoding),
        reading=ColumnReading(
            time_unit=unit_of(time_unit),
            time_origin=moment_of_day(time_origin),
            rating_scale=scale_of(rating_scale),
            is_implicit=implicit,
        ),
    )
    _run_import(request, as_json=as_json)


def duration_of(option: str, text: str) -> timedelta:
    """A duration as it is typed.

    Raises:
        ImportRefused: if it is none, or longer than ten years.
    """
    from reference_system.errors import ImportRefused

    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    delay = int(match[1]) * _UNITS[match[2]] if match else None
    if delay is None or delay > _MOST:
        raise ImportRefused(
            f"{option} {text!r} is no duration: a whole number and s, m, h or d, at most {_MOST.days}d, like 7d"
        )
    return delay


def unit_of(text: str | None) -> timedelta | None:
    """The unit of times that are counted.

    Raises:
        ImportRefused: if it is no duration, or none at all.
    """
    from reference_system.errors import ImportRefused

    if text is None:
        return None
    try:
        unit = duration_of("--time-unit", _UNIT_WORDS.get(text.strip().lower(), text))
    except ImportRefused:
        unit = timedelta(0)
    if not unit:
        words = ", ".join(_UNIT_WORDS)
        raise ImportRefused(f"--time-unit {text!r} is no unit: {words}, or how long a step is, like 15m")
    return unit


def moment_of_day(text: str | None) -> datetime | None:
    """A day or a moment as it is typed; without a zone it is UTC.

    Raises:
        ImportRefused: if it is none.
    """
    from reference_system.errors import ImportRefused

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ImportRefused(f"--time-origin {text!r} is no day or time in ISO 8601, like 2024-01-01") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def scale_of(text: str) -> tuple[float, float]:
    """The worst and the best rating.

    Raises:
        ImportRefused: if these are no two numbers.
    """
    from reference_system.errors import ImportRefused

    match = re.fullmatch(r"(-?[0-9]+(?:\.[0-9]+)?):(-?[0-9]+(?:\.[0-9]+)?)", text.strip())
    if match is None:
        raise ImportRefused(f"--rating-scale {text!r} is not of the form LOW:HIGH, like 0:10")
    return float(match[1]), float(match[2])


def _run_import(request: ImportRequest, *, as_json: bool) -> None:
    import msgspec

    from reference_system.clock import wall_now
    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.dataset_import.importing import import_file
    from reference_system.lake.datasets import dataset_folder
    from reference_system.settings import load_settings

    settings = load_settings()
    dataset_folder(settings, request.dataset)
    with changing(settings, "data import"), progress_bar() as progress:
        report = import_file(settings, request, now=wall_now(), progress=_patient(progress))
    typer.echo(msgspec.json.encode(report) if as_json else "\n".join(report.lines()))


def _patient(progress: Callable[[float, str], None]) -> Callable[[float, str], None]:
    """Progress that says nothing into a file or a pipe about an import that takes seconds."""
    begun = monotonic()

    def show(share: float, text: str) -> None:
        if sys.stderr.isatty() or monotonic() > begun + _QUIET_SECONDS:
            progress(share, text)

    return show


@contextmanager
def changing(settings: Settings, verb: str) -> Iterator[None]:
    """Hold the lock of all datasets; a state directory is made where there is none."""
    from reference_system.lake.datasets import datasets_folder
    from reference_system.stack.locks import one_at_a_time
    from reference_system.stack.state_dir import refuse_foreign

    refuse_foreign(settings.state_dir)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with one_at_a_time(datasets_folder(settings), verb):
        yield
