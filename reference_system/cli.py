"""The command line: `workbook VERB`.

In: a verb. Out: what the verb's module in `commands/` does.
Invariant: an error that a reader can meet is one line (the fact and the next command) and a non-zero exit, never a
traceback; `--help` imports nothing heavy, because each verb imports its own libraries inside its function.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reference_system.commands.backtest import backtest
from reference_system.commands.data import data, dead_letter, features, openapi, recommend, schemas, state
from reference_system.commands.drift import drift
from reference_system.commands.experiment import experiment
from reference_system.commands.loop import etl, monitor, scenario, score_batch, timeline, train
from reference_system.commands.models import models, release
from reference_system.commands.proofs import bench, drill, load, verify
from reference_system.commands.system import clean, doctor, down, kafka, logs, restart, run, status, up
from reference_system.commands.workbook import design
from reference_system.errors import WorkbookError

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports


class OneLineErrors(TyperGroup):
    """The root group: turns what goes wrong into one line."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the type of a typer context is private to typer
        """Run the verb; with `--debug` a traceback is shown as it is."""
        try:
            return super().invoke(ctx)
        except WorkbookError as error:
            if ctx.params.get("debug"):
                raise
            complain(error.for_person())
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from error


def complain(line: str) -> None:
    """One red line on stderr."""
    typer.secho(line, fg=typer.colors.RED, err=True)


app = typer.Typer(
    name="workbook",
    cls=OneLineErrors,
    help="The running reference architecture and its design exercises.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(
    *,
    debug: Annotated[bool, typer.Option("--debug", envvar="WORKBOOK_DEBUG", help="Show tracebacks.")] = False,  # noqa: ARG001 - the group reads it
) -> None:
    """The running reference architecture and its design exercises."""
    from reference_system.stack.environment import TELEMETRY_SWITCHES

    # Here and not only in what we start: a verb may import ONNX Runtime, MLflow or Evidently itself.
    os.environ.update(TELEMETRY_SWITCHES)


# One line a verb. A module with one command names it itself (`@app.command("up")`) and is added without a name;
# a module with several is a group and gets its name here: `app.add_typer(kafka.app, name="kafka")`.
app.add_typer(up.app)
app.add_typer(down.app)
app.add_typer(status.app)
app.add_typer(logs.app)
app.add_typer(restart.app)
app.add_typer(doctor.app)
app.add_typer(clean.app)
app.add_typer(run.app)
app.add_typer(scenario.app, name="scenario")
app.add_typer(etl.app)
app.add_typer(train.app)
app.add_typer(models.app, name="models")
app.add_typer(release.app, name="release")
app.add_typer(recommend.app)
app.add_typer(score_batch.app)
app.add_typer(monitor.app, name="monitor")
app.add_typer(timeline.app)
app.add_typer(experiment.app, name="experiment")
app.add_typer(load.app)
app.add_typer(backtest.app, name="backtest")
app.add_typer(drift.app, name="drift")
app.add_typer(drill.app, name="drill")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(verify.app)
app.add_typer(dead_letter.app, name="dead-letter")
app.add_typer(features.app, name="features")
app.add_typer(design.app, name="design")
app.add_typer(schemas.app)
app.add_typer(openapi.app)
app.add_typer(kafka.app, name="kafka")
app.add_typer(state.app, name="state")

if __name__ == "__main__":
    app()
