"""`workbook backtest recommendation`: recommenders against popularity, on interactions that were hidden from them.

In: a dataset and a way to split it. Out: a table, or the report as JSON.
Invariant: the table says who won, also where popularity did.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reference_system.training.recommendation.recommenders.backtest import RecommendationBacktest

app = typer.Typer()


class SplitName(StrEnum):
    """How interactions are hidden."""

    temporal = "temporal"
    random = "random"


@app.command("recommendation")
def backtest_recommendation(  # noqa: PLR0913 - the options of the verb
    *,
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="An imported dataset, or live.")] = "live",
    split: Annotated[SplitName, typer.Option(help="Hide the newest of all, or at random.")] = SplitName.temporal,
    test_share: Annotated[float, typer.Option(min=0.01, max=0.9, help="The share that is hidden.")] = 0.2,
    k: Annotated[int, typer.Option("--k", min=1, max=1_000, help="How long a list is.")] = 10,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Popularity, item-kNN, factors, the linear autoencoder and a blend: recall, ndcg, coverage and novelty at k."""
    import msgspec

    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.lake.datasets import LIVE, dataset_for
    from reference_system.settings import load_settings

    paths, _ = dataset_for(load_settings(), dataset, "recommendation")
    from reference_system.training.recommendation.recommenders.backtest import backtest_recommenders
    from reference_system.training.recommendation.recommenders.interactions import read_interactions

    rows = read_interactions(paths.lake, live=dataset == LIVE)

    with progress_bar() as progress:
        report = backtest_recommenders(
            rows, dataset=dataset, split=split.value, test_share=test_share, k=k, seed=seed, progress=progress
        )
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _print(report)


def _print(report: RecommendationBacktest) -> None:
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.metrics.meanings import meanings_of

    console = reader_console()
    console.print(
        f"{report.dataset}: {report.train_interactions:,} interactions to learn from, {report.test_interactions:,}"
        f" hidden ({report.split}); {report.users_judged:,} users judged, {report.users_without_history:,} without"
        f" history; {report.items_without_history:,} wanted items without history",
        style="dim",
    )
    table = Table("", *report.models[0].metrics, "validation", "seconds", "settings")
    for model in report.models:
        mark = " *" if model.name == report.chosen else ""
        numbers = ["" if value is None else f"{value:.4f}" for value in (*model.metrics.values(), model.validation)]
        settings = ", ".join(f"{name} {value:g}" for name, value in model.parameters.items())
        table.add_row(model.name + mark, *numbers, f"{model.seconds:.1f}", settings)
    print_table(table, console=console)
    for meaning in meanings_of(report.models[0].metrics):
        console.print(meaning, style="dim")
    if report.metrics_without_history:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in report.metrics_without_history.items())
        console.print(f"users without history, by recent popularity: {figures}")
    for note in report.notes:
        console.print(note)
    console.print("* chosen before the test, by hiding interactions inside what was learned from", style="dim")
