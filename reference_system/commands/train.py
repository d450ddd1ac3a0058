"""`workbook train USE_CASE`: train a challenger now.

In: a use case. Out: the registered version and the gate's answer, as lines or as JSON.
Invariant: where the Prefect server answers, the run is visible there; without it the training is the same.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from reference_system.settings import Settings

app = typer.Typer()


class UseCaseName(StrEnum):
    """The use cases, as the command line offers them."""

    fraud = "fraud"
    recommendation = "recommendation"


@app.command("train")
def train(
    use_case: Annotated[UseCaseName, typer.Argument(help="What to train.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Train a challenger; the gate decides whether it becomes champion."""
    from reference_system.settings import load_settings
    from reference_system.stack.environment import child_environment

    settings = load_settings()
    # Before any library is imported: several read their switches at import.
    os.environ.update(child_environment(settings))
    # The run's log, tracebacks included, is on the server; at the prompt an error is one line.
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    summary = _run(settings, use_case.value)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(f"{summary['use_case']}: version {summary['version']} ({summary['estimator']}): {summary['answer']}")
    for reason in cast("list[str]", summary["reasons"]):
        typer.echo(f"  {reason}")
    for name, value in cast("dict[str, float]", summary["metrics"]).items():
        typer.echo(f"  {name:<24} {value:.4f}")
    typer.echo(f"  {settings.url('mlflow')}/#/experiments (run {summary['run_id']})")


def _run(settings: Settings, use_case: str) -> dict[str, object]:
    """As a run of the Prefect server if it answers, or plainly."""
    from reference_system.flows import prefect_train
    from reference_system.stack.services import service_named

    answers = service_named(settings, "prefect").health.problem() is None
    where = f"{settings.url('prefect')}/runs" if answers else "not shown in Prefect: its server does not answer"
    typer.echo(f"training {use_case} ({where})", err=True)
    return prefect_train.train(use_case) if answers else prefect_train.train.fn(use_case)
