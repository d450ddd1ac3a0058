"""`workbook train USE_CASE`: train a challenger now.

In: a use case. Out: the registered version, the gate's answer with its checks, and what follows; lines or JSON. With
`--trigger schedule` the reason, where the schedule would leave it out.
Invariant: where the Prefect server answers, the run is visible there; without it the training is the same.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.on_demand import flow_settings, run_now
from reference_system.commands.terminal.options import UseCaseName

if TYPE_CHECKING:
    from reference_system.flows.prefect_train import TrainSummary
    from reference_system.settings import Settings

app = typer.Typer()

_COLOURS = {"promote": typer.colors.GREEN, "hold": typer.colors.YELLOW, "refuse": typer.colors.RED}


class TriggerName(StrEnum):
    """Why a model is trained, as the command line offers it."""

    ASKED = "asked"
    SCHEDULE = "schedule"
    DRIFT = "drift"
    PERFORMANCE = "performance"


@app.command("train")
def train(
    use_case: Annotated[UseCaseName, typer.Argument(help="What to train.")],
    *,
    trigger: Annotated[
        TriggerName, typer.Option(help="Why: after drift or performance it learns from labels as reported so far.")
    ] = TriggerName.ASKED,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Train a challenger; the gate decides whether its release begins."""
    settings = flow_settings()
    from reference_system.flows import prefect_train

    summary = run_now(settings, prefect_train.train, use_case=use_case.value, trigger=trigger.value)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    if "skipped" in summary:
        typer.secho(f"{use_case.value}: no scheduled training: {summary['skipped']}", fg=typer.colors.YELLOW)
        typer.echo(f"  to train now: `workbook train {use_case.value}`")
        return
    import msgspec

    _print(settings, msgspec.convert(summary, prefect_train.TrainSummary))


def _print(settings: Settings, summary: TrainSummary) -> None:
    head = f"{summary.use_case}: version {summary.version} ({summary.estimator}): {summary.answer}"
    typer.secho(head, fg=_COLOURS[summary.answer])
    for reason in summary.reasons:
        typer.echo(f"  {reason}")
    for name, value in summary.metrics.items():
        typer.echo(f"  {name:<28} {value:.4f}")
    follows = {
        "champion": "it is the champion now",
        "shadow": f"its release has begun in the shadow: `workbook timeline {summary.use_case}`",
        "nothing": "the champion stays",
    }
    typer.echo(f"  {follows[summary.then]}; `workbook models show {summary.use_case} {summary.version}`")
    typer.echo(f"  {settings.url('mlflow')}/#/models/{summary.use_case}/versions/{summary.version}")
