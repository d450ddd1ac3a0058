"""`workbook data`: your own transactions or ratings, each dataset under a name of its own.

In: a dataset's name. Out: what it holds.
Invariant: one import or removal at a time.
"""

from __future__ import annotations

from typing import Annotated

import typer

from reference_system.commands.data import data_import
from reference_system.commands.terminal.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Bring your own data: import, list, describe, remove.")
app.add_typer(data_import.app, name="import")


@app.command("list")
def list_datasets(*, as_json: AsJson = False) -> None:
    """The datasets: use case, rows, span, imports."""
    import msgspec

    from reference_system.lake.datasets import dataset_names, read_dataset_manifest
    from reference_system.settings import load_settings

    settings = load_settings()
    found = {name: read_dataset_manifest(settings, name) for name in dataset_names(settings)}
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for name, manifest in found.items():
        events = ", ".join(f"{count:,} {topic}" for topic, count in manifest.events.items())
        typer.echo(f"{name:20} {manifest.use_case:15} {manifest.first:%Y-%m-%d} to {manifest.last:%Y-%m-%d}  {events}")
    if not found:
        typer.echo("no dataset yet: `workbook data import fraud --help`, `workbook data import recommendation --help`")


@app.command("describe")
def describe(name: Annotated[str, typer.Argument(help="A dataset.")], *, as_json: AsJson = False) -> None:
    """What a dataset holds: counts, span, labels, sources, size, and a picture over time."""
    import msgspec

    from reference_system.dataset_import.duckdb_profile import profile
    from reference_system.lake.datasets import read_dataset_manifest, version_paths
    from reference_system.settings import load_settings

    settings = load_settings()
    manifest = read_dataset_manifest(settings, name)
    found = profile(name, manifest, version_paths(settings, name, manifest.version))
    typer.echo(msgspec.json.encode(found) if as_json else "\n".join(found.lines()))


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="A dataset.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a dataset, and say how much that was. Your own file is not touched."""
    from reference_system.lake.datasets import (
        dataset_folder,
        disk_megabytes,
        read_dataset_manifest,
        remove_dataset,
    )
    from reference_system.settings import load_settings

    settings = load_settings()
    folder = dataset_folder(settings, name)
    if not folder.is_dir():
        read_dataset_manifest(settings, name)
    if not yes:
        typer.confirm(f"remove {folder} ({disk_megabytes(folder):.1f} MB)?", abort=True)
    with data_import.changing(settings, "data remove"):
        typer.echo(f"removed {name}: {remove_dataset(settings, name):.1f} MB")
