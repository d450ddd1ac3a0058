"""`workbook features`: the inputs of a model, built from the lake.

In: the live system or an imported dataset. Out: one file.
Invariant: the values are those that the declarations give.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reference_system.commands.data import features_parity, features_replay
from reference_system.commands.terminal.options import UseCaseName
from reference_system.commands.terminal.table_files import require_table, with_own_types, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from reference_system.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Build features from the lake, and compare what was served with them.")
app.add_typer(features_parity.app)
app.add_typer(features_replay.app)


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What was built."""

    use_case: str
    dataset: str
    file: str
    rows: int
    columns: tuple[str, ...]
    seconds: float


@app.command("build")
def build(
    use_case: Annotated[UseCaseName, typer.Argument(help="Whose inputs.")],
    out: Annotated[
        Path, typer.Option("--out", help=".parquet, .csv or .tsv, also .csv.gz; one that exists is replaced.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="An imported dataset (`workbook data list`).")] = "live",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was built as JSON.")] = False,
) -> None:
    """Write the inputs of every event, in the order of time: the values that a model would have been given."""
    from reference_system.settings import load_settings

    begun = monotonic()
    table = build_inputs(load_settings(), use_case.value, dataset, out)
    built = Built(
        use_case=use_case.value,
        dataset=dataset,
        file=str(out),
        rows=table.num_rows,
        columns=tuple(table.column_names),
        seconds=round(monotonic() - begun, 2),
    )
    if as_json:
        typer.echo(msgspec.json.encode(built))
    else:
        typer.echo(f"{built.file}: {built.rows:,} rows of {len(built.columns)} columns in {built.seconds} s")


def build_inputs(settings: Settings, use_case: str, dataset: str, out: Path) -> pa.Table:
    """Compute the inputs of every event of a dataset and write them to a file.

    Raises:
        StateError: if there is no such dataset, it has no such events, or the file cannot be written there.
    """
    from reference_system.errors import StateError
    from reference_system.features.history.fraud_inputs import fraud_inputs
    from reference_system.features.history.recommendation_inputs import rating_inputs
    from reference_system.lake.datasets import dataset_for, order_folder

    instead = f"workbook features build {{held}} --dataset {dataset} --out {out}"
    paths, manifest = dataset_for(settings, dataset, use_case, next_command=instead)
    require_table(out)
    of = {"fraud": fraud_inputs, "recommendation": rating_inputs}[use_case]
    table = of(paths.lake, order_folder(paths))
    if not table.num_rows:
        what = {"fraud": "payments", "recommendation": "ratings"}[use_case]
        raise StateError(f"the dataset {dataset!r} has no {what}", next_command="workbook data list")
    table = with_own_types(table, manifest)
    write_table(out, table)
    return table
