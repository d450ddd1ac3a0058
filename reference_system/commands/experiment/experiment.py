"""`workbook experiment`: A/B tests of the recommender.

In: a treatment's version. Out: a traffic plan that serving follows, and the effect over time with a verdict.
Invariant: while an experiment is on there is no release and no other experiment; a report needs nothing but the lake.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.experiment import simulate as experiment_simulate
from reference_system.commands.experiment.simulate import SimulatedMetric
from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from reference_system.experiments.definition import Experiment
    from reference_system.experiments.report import ExperimentReport
    from reference_system.paths import StatePaths

app = typer.Typer(help="A/B tests of the recommender, to be looked at at any time.", no_args_is_help=True)
app.add_typer(experiment_simulate.app)

ExperimentName = Annotated[str, typer.Argument(help="An experiment's name, see `workbook experiment list`.")]
USE_CASE = "recommendation"


@app.command("start")
def start(
    name: Annotated[str, typer.Argument(help="A new name: a-z, 0-9, _ and -.")],
    treatment: Annotated[str, typer.Option("--treatment", metavar="VERSION", help="The version to try.")],
    share: Annotated[float, typer.Option("--share", min=0.01, max=0.99, help="Of the viewers who get it.")] = 0.5,
    metric: Annotated[
        SimulatedMetric, typer.Option("--metric", help="What is compared.")
    ] = SimulatedMetric.WATCHES_PER_PAGE,
    *,
    as_json: AsJson = False,
) -> None:
    """Let a version answer a random share of the viewers, and log who was answered by which."""
    import msgspec

    from reference_system.clock import SimulatedClock
    from reference_system.commands.experiment.traffic import begin_traffic, require_free
    from reference_system.experiments.definition import Experiment, salt_of
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    control = require_free(settings, name, treatment)
    now = SimulatedClock(paths.clock).now()
    experiment = Experiment(
        name=name,
        treatment=treatment,
        control=control,
        share=share,
        metric=metric.value,
        salt=salt_of(name, now),
        started=now,
    )
    begin_traffic(paths, experiment)
    if as_json:
        typer.echo(msgspec.json.encode(experiment))
        return
    typer.echo(
        f"{name} is on from {now:%Y-%m-%d %H:%M} (event time): {share:.0%} of the viewers are answered by version"
        f" {treatment}, the others by {control}"
    )
    typer.echo(f"look whenever you like: `workbook experiment status {name}`")


@app.command("status")
def status(
    name: Annotated[str | None, typer.Argument(help="By default the newest.", show_default=False)] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the effect over time: .png or .svg.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """The effect by now with its interval, and whether it is sure; to be looked at at any time."""
    import msgspec

    from reference_system.commands.experiment.report import print_report, write_plot
    from reference_system.experiments.definition import read_experiment
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    paths = StatePaths(load_settings().state_dir)
    experiment = read_experiment(paths.experiments, name) if name else _newest(paths)
    report = _report(paths, experiment)
    if plot is not None:
        write_plot(experiment, report, plot)
    if as_json:
        frozen = msgspec.structs.replace(experiment, result=report)
        typer.echo(msgspec.json.encode(frozen))
    else:
        print_report(experiment, report)
        if experiment.stopped is None:
            _print_traffic(paths, experiment)


@app.command("stop")
def stop(name: ExperimentName, *, as_json: AsJson = False) -> None:
    """Let the champion answer everybody again, and keep the result."""
    import msgspec

    from reference_system.clock import SimulatedClock
    from reference_system.commands.experiment.report import print_report
    from reference_system.commands.experiment.traffic import end
    from reference_system.errors import StateError
    from reference_system.experiments.definition import read_experiment
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    paths = StatePaths(load_settings().state_dir)
    experiment = read_experiment(paths.experiments, name)
    if experiment.stopped is not None:
        raise StateError(
            f"{name} was stopped at {experiment.stopped:%Y-%m-%d %H:%M} (event time)",
            next_command=f"workbook experiment status {name}",
        )
    now = SimulatedClock(paths.clock).now()
    report = _report(paths, msgspec.structs.replace(experiment, stopped=now))
    ended = msgspec.structs.replace(experiment, stopped=now, result=report)
    end(paths, ended, report)
    if as_json:
        typer.echo(msgspec.json.encode(ended))
        return
    print_report(ended, report)
    won = report.usable and report.effect is not None and report.effect.sure == "better"
    if won and experiment.treatment != experiment.control:
        typer.echo(f"next: `workbook models promote {USE_CASE} {experiment.treatment}`")


@app.command("list")
def list_experiments(*, as_json: AsJson = False) -> None:
    """Every experiment, with the result of those that were stopped."""
    import msgspec

    from reference_system.commands.experiment.report import print_list
    from reference_system.experiments.definition import read_experiments
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    found = read_experiments(StatePaths(load_settings().state_dir).experiments)
    if as_json:
        typer.echo(msgspec.json.encode(found))
    elif found:
        print_list(found)
    else:
        typer.echo("no experiment yet: `workbook experiment start --help`")


def _newest(paths: StatePaths) -> Experiment:
    """The experiment that was started last: the one that is on, if one is.

    Raises:
        StateError: there is none.
    """
    from reference_system.errors import StateError
    from reference_system.experiments.definition import read_experiments

    found = read_experiments(paths.experiments)
    if not found:
        raise StateError("there is no experiment yet", next_command="workbook experiment start --help")
    return found[-1]


def _report(paths: StatePaths, experiment: Experiment) -> ExperimentReport:
    """The frozen result, or what the lake says by now; viewers whose day goes on at the stop are left out."""
    from reference_system.experiments import duckdb_recommendation_viewers as duckdb_viewers
    from reference_system.experiments.analysis import analyse
    from reference_system.experiments.viewers import expectation

    if experiment.result is not None:
        return experiment.result
    known = duckdb_viewers.known_until(paths.lake) or experiment.started
    as_of = min(known, experiment.stopped or known)
    found = duckdb_viewers.exposed(paths.lake, experiment, until=as_of)
    return analyse(
        experiment,
        found,
        duckdb_viewers.viewers_of(paths.lake, found, started=experiment.started),
        expectation(experiment.metric, duckdb_viewers.rehearsal(paths.lake, ended=experiment.started)),
        as_of=as_of,
    )


def _print_traffic(paths: StatePaths, experiment: Experiment) -> None:
    """Say where the traffic plan does not know of an experiment that was not stopped."""
    from reference_system.registry.traffic import read_plan

    plan = read_plan(paths.bundles, USE_CASE)
    if plan is None or plan.name != experiment.name:
        typer.echo(
            f"the traffic plan does not hold it: nobody is exposed; `workbook experiment stop {experiment.name}`"
        )
