"""`workbook experiment simulate`: how often each test is wrong when somebody looks all the time.

In: how many experiments, how often one looks, which effects are planted. Out: rates of each test.
Invariant: the same seed gives the same figures; the live system is not touched.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from reference_system.experiments.simulation import Simulated, TestRates

app = typer.Typer()


class SimulatedMetric(StrEnum):
    """What can be compared."""

    WATCHES_PER_PAGE = "watches-per-page"
    WATCH_RATE = "watch-rate"
    WATCH_MINUTES = "watch-minutes"


class PeekOption(StrEnum):
    """How often somebody looks: each simulated day, or after every viewer."""

    DAILY = "daily"
    EVERY = "every"


@app.command("simulate")
def simulate(  # noqa: PLR0913 - the options of the verb
    runs: Annotated[int, typer.Option("--runs", min=20, max=100_000, help="Experiments.")] = 1_000,
    viewers: Annotated[int, typer.Option("--viewers", min=250, max=50_000, help="In each of them.")] = 4_000,
    peeks: Annotated[PeekOption, typer.Option("--peeks", help="When somebody looks.")] = PeekOption.EVERY,
    effect: Annotated[
        list[float] | None,
        typer.Option("--effect", min=-0.9, max=10.0, help="A planted effect, as a share; may be repeated (0: A/A)."),
    ] = None,
    metric: Annotated[
        SimulatedMetric, typer.Option("--metric", help="What is compared.")
    ] = SimulatedMetric.WATCHES_PER_PAGE,
    *,
    as_json: AsJson = False,
) -> None:
    """Wrong and right alarms of each test under peeking, on outcomes of real or generated viewers; seconds."""
    import msgspec
    import numpy as np

    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.experiments.simulation import SimulationPlan
    from reference_system.experiments.simulation import simulate_experiments as run
    from reference_system.proofs.recommendation_pool import pool_of
    from reference_system.settings import load_settings

    settings = load_settings()
    effects = effect or [0.0]
    with progress_bar() as progress:
        progress(0.0, "viewers to draw from")
        pool, where = pool_of(settings, metric.value)
        found = []
        for place, planted in enumerate(effects):
            plan = SimulationPlan(runs=runs, viewers=viewers, peeks=peeks.value, effect=planted)
            found.append(
                run(
                    pool,
                    plan,
                    np.random.default_rng(settings.seed),
                    lambda share, place=place, planted=planted: progress(  # type: ignore[misc]
                        (place + share) / len(effects), f"effect {planted:+.0%}"
                    ),
                )
            )
    if as_json:
        told = {"metric": metric.value, "viewers_from": where, "variance_reduction": pool.variance_reduction}
        typer.echo(msgspec.json.encode(told | {"simulated": found}))
        return
    typer.echo(f"{metric.value}; viewers drawn from {where} ({len(pool.expected):,} of them)")
    typer.echo(f"variance taken away by what they did before: {pool.variance_reduction:.1%}")
    for each in found:
        _print(each, peeks)


def _print(found: Simulated, peeks: PeekOption) -> None:
    from reference_system.commands.terminal.tables import print_table, reader_console

    console = reader_console()
    console.print(
        f"\neffect {found.effect:+.0%}: {found.runs:,} experiments of {found.viewers:,} viewers, looked at"
        f" {found.looks:,} times ({peeks})"
    )
    print_table(_table(found.tests), console=console)
    if found.effect:
        return
    console.print("chance alone; false alarms of the sample ratio at 0.1 %:")
    for rates in found.ratio_alarms:
        console.print(f"  {rates.test}: {rates.said:.1%}")
    ours = found.tests[0]
    held = ours.said <= found.alpha + 3 * found.standard_error
    console.print(
        f"{ours.test}: {ours.said:.1%} false alarms, at most {found.alpha:.0%} are allowed:"
        f" {'held' if held else 'NOT HELD'}"
    )


def _table(tests: tuple[TestRates, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("test")
    for heading in ("says there is a difference", "ever missed the truth", "viewers when it said so (median)"):
        table.add_column(heading, justify="right")
    for rates in tests:
        missed = "" if rates.missed is None else f"{rates.missed:.1%}"
        when = "" if rates.median_viewers is None else f"{rates.median_viewers:,}"
        table.add_row(rates.test, f"{rates.said:.1%}", missed, when)
    return table
