"""`workbook train USE_CASE`: train a challenger now.

In: a use case. Out: the registered version and the gate's answer, as lines or as JSON.
Invariant: where the Prefect server answers, the run is visible there; without it the training is the same.
"""

from __future__ import annotations

import json
from typing import Annotated, cast

import typer

from reference_system.commands.on_demand import UseCaseName, prepare, run_now

app = typer.Typer()


@app.command("train")
def train(
    use_case: Annotated[UseCaseName, typer.Argument(help="What to train.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Train a challenger; the gate decides whether it becomes champion."""
    settings = prepare()
    from reference_system.flows import prefect_train

    summary = run_now(settings, prefect_train.train, use_case=use_case.value)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(f"{summary['use_case']}: version {summary['version']} ({summary['estimator']}): {summary['answer']}")
    for reason in cast("list[str]", summary["reasons"]):
        typer.echo(f"  {reason}")
    for name, value in cast("dict[str, float]", summary["metrics"]).items():
        typer.echo(f"  {name:<24} {value:.4f}")
    typer.echo(f"  {settings.url('mlflow')}/#/experiments (run {summary['run_id']})")
