"""`workbook data`: your own transactions or ratings, each dataset under a name of its own.

In: a Parquet or CSV file. Out: a dataset beside the live system, and what was found in the file.
Invariant: one import or removal at a time; a refused import writes nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reference_system.imports.importing import ImportRequest
    from reference_system.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Bring your own data: import, list, describe, remove.")
_import = typer.Typer(no_args_is_help=True, help="Import a Parquet or CSV file into a dataset.")
app.add_typer(_import, name="import")

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MOST = timedelta(days=3_650)
_QUIET_SECONDS = 10.0

Columns = Annotated[
    str | None,
    typer.Option("--columns", help="field=COLUMN,… where the file's names are not ours.", show_default="our names"),
]
Dataset = Annotated[str, typer.Option("--dataset", help="Its name: a-z, 0-9, _ and -.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Leave bad rows out instead of refusing the file.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@_import.command("fraud")
def import_fraud(  # noqa: PLR0913 - the options of the verb
    transactions: Annotated[Path, typer.Option("--transactions", help="Parquet or CSV, a row for each payment.")],
    dataset: Dataset,
    columns: Columns = None,
    label_delay: Annotated[
        str, typer.Option("--label-delay", help="After how long a fraud is known: 7d, 36h, 90m, 0s.")
    ] = "7d",
    *,
    skip_bad_rows: SkipBadRows = False,
    as_json: Json = False,
) -> None:
    """Payments with labels: transaction_id, event_timestamp, customer_id, terminal_id, amount, is_fraud."""
    from reference_system.imports.importing import ImportRequest

    request = ImportRequest(
        use_case="fraud",
        file=transactions,
        columns=columns,
        dataset=dataset,
        label_delay=duration_of(label_delay),
        skip_bad_rows=skip_bad_rows,
    )
    _run_import(request, as_json=as_json)


@_import.command("recommendation")
def import_recommendation(
    interactions: Annotated[Path, typer.Option("--interactions", help="Parquet or CSV, a row for each rating.")],
    dataset: Dataset,
    columns: Columns = None,
    *,
    skip_bad_rows: SkipBadRows = False,
    as_json: Json = False,
) -> None:
    """Ratings from 0 to 5: user_id, item_id, event_timestamp, rating."""
    from reference_system.imports.importing import ImportRequest

    request = ImportRequest(
        use_case="recommendation",
        file=interactions,
        columns=columns,
        dataset=dataset,
        label_delay=None,
        skip_bad_rows=skip_bad_rows,
    )
    _run_import(request, as_json=as_json)


@app.command("list")
def list_datasets(*, as_json: Json = False) -> None:
    """The datasets: use case, rows, span, imports."""
    import msgspec

    from reference_system.datasets import dataset_names, read_manifest
    from reference_system.settings import load_settings

    settings = load_settings()
    found = {name: read_manifest(settings, name) for name in dataset_names(settings)}
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for name, manifest in found.items():
        events = ", ".join(f"{count:,} {topic}" for topic, count in manifest.events.items())
        typer.echo(f"{name:20} {manifest.use_case:15} {manifest.first:%Y-%m-%d} to {manifest.last:%Y-%m-%d}  {events}")
    if not found:
        typer.echo("no dataset yet: `workbook data import fraud --help`, `workbook data import recommendation --help`")


@app.command("describe")
def describe(name: Annotated[str, typer.Argument(help="A dataset.")], *, as_json: Json = False) -> None:
    """What a dataset holds: counts, span, labels, sources, size, and a picture over time."""
    import msgspec

    from reference_system.datasets import read_manifest, version_paths
    from reference_system.imports.duckdb_profile import profile
    from reference_system.settings import load_settings

    settings = load_settings()
    manifest = read_manifest(settings, name)
    found = profile(name, manifest, version_paths(settings, name, manifest.version))
    typer.echo(msgspec.json.encode(found) if as_json else "\n".join(found.lines()))


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="A dataset.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a dataset, and say how much that was. Your own file is not touched."""
    from reference_system.datasets import dataset_folder, disk_megabytes, read_manifest, remove_dataset
    from reference_system.settings import load_settings

    settings = load_settings()
    folder = dataset_folder(settings, name)
    if not folder.is_dir():
        read_manifest(settings, name)
    if not yes:
        typer.confirm(f"remove {folder} ({disk_megabytes(folder):.1f} MB)?", abort=True)
    with _changing(settings, "data remove"):
        typer.echo(f"removed {name}: {remove_dataset(settings, name):.1f} MB")


def duration_of(text: str) -> timedelta:
    """A duration as it is typed.

    Raises:
        ImportRefused: if it is none, or longer than ten years.
    """
    from reference_system.errors import ImportRefused

    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    delay = int(match[1]) * _UNITS[match[2]] if match else None
    if delay is None or delay > _MOST:
        raise ImportRefused(
            f"--label-delay {text!r} is no duration: a whole number and s, m, h or d, at most {_MOST.days}d, like 7d"
        )
    return delay


def _run_import(request: ImportRequest, *, as_json: bool) -> None:
    import msgspec

    from reference_system.clock import wall_now
    from reference_system.commands.proof_progress import progress_bar
    from reference_system.datasets import dataset_folder
    from reference_system.imports.importing import import_file
    from reference_system.settings import load_settings

    settings = load_settings()
    dataset_folder(settings, request.dataset)
    with _changing(settings, "data import"), progress_bar() as progress:
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
def _changing(settings: Settings, verb: str) -> Iterator[None]:
    """Hold the lock of all datasets; a state directory is made where there is none."""
    from reference_system.datasets import datasets_folder
    from reference_system.stack.one_at_a_time import one_at_a_time
    from reference_system.stack.state_dir import refuse_foreign

    refuse_foreign(settings.state_dir)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with one_at_a_time(datasets_folder(settings), verb):
        yield
