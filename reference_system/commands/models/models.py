"""`workbook models`: the registered models of each use case, and who is champion.

In: a use case, a version. Out: tables and the model card; the pointer moved.
Invariant: nothing becomes champion whose bundle was not verified first; all verbs work while MLflow or serving is
away, and say so; none imports MLflow's client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson, UseCaseArgument, UseCaseName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from reference_system.flows.promotion import Moved
    from reference_system.monitoring.recommendation.page_worth import PolicyWorth
    from reference_system.registry.mlflow_rest import Version
    from reference_system.registry.model_list import ModelRow
    from reference_system.settings import Settings

app = typer.Typer(help="Registered models: list, look, promote, roll back.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_COLOURS = {"champion": "green", "refused": "red", "rolled back": "red", "held": "yellow"}


@app.command("list")
def list_models(
    use_case: Annotated[UseCaseName | None, typer.Argument(help="One use case alone.")] = None, *, json: AsJson = False
) -> None:
    """Show every version: what it learned from, what it is worth, what the gate said, what became of it."""
    import msgspec

    from reference_system.registry.model_list import listed
    from reference_system.settings import load_settings

    settings = load_settings()
    names = [use_case.value] if use_case else [name.value for name in UseCaseName]
    rows = [row for name in names for row in listed(_bundles(settings), name, _registered(settings, name, quiet=json))]
    worth = _worth(settings, names)
    if json:
        typer.echo(msgspec.json.encode({"models": rows, "page_worth": worth}))
    elif rows:
        _print_rows(rows)
        _print_worth(settings, worth)
    else:
        typer.echo("no model was trained yet; run `workbook train fraud`")


@app.command("show")
def show(
    use_case: UseCaseArgument,
    version: Annotated[str | None, typer.Argument(help="A version; the champion if left out.")] = None,
    *,
    json: AsJson = False,
) -> None:
    """Show a version's model card and everything that was decided about it."""
    import msgspec

    from reference_system.registry.bundles.bundle import read_bundle_manifest, version_folder
    from reference_system.registry.promotion_log import read_decisions
    from reference_system.settings import load_settings

    settings = load_settings()
    root, name = _bundles(settings), use_case.value
    chosen = version or _present(root, name)
    decisions = [one for one in read_decisions(root, name) if one.version == chosen]
    card = _card(settings, name, chosen)
    worth = [row for row in _worth(settings, [name]) if row.policy == chosen]
    if json:
        manifest = read_bundle_manifest(version_folder(root, name, chosen))
        shown = {"manifest": manifest, "decisions": decisions, "card": card, "page_worth": worth}
        typer.echo(msgspec.json.encode(shown))
        return
    from reference_system.commands.terminal.tables import print_markdown, reader_console

    console = reader_console()
    print_markdown(card, console=console)
    _print_worth(settings, worth)
    for one in decisions:
        said = "; ".join(one.reasons)
        console.print(f"{one.event_timestamp:%Y-%m-%d %H:%M}  {one.kind:12} {said}", markup=False, soft_wrap=True)


@app.command("promote")
def promote(
    use_case: UseCaseArgument,
    version: Annotated[str, typer.Argument(help="The version that shall be champion.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Even if the gate refused or held it.")] = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Make a version champion now, without shadow and canary; a release of the use case is ended."""
    from reference_system.flows import promotion as model_moves
    from reference_system.settings import load_settings

    settings = load_settings()
    model_moves.require_gate(_bundles(settings), use_case.value, version, force=force)
    if not yes:
        typer.confirm(f"make version {version} the champion of {use_case.value}?", abort=True)
    _say(model_moves.promote_by_hand(settings, use_case.value, version), json=json)


@app.command("rollback")
def rollback(
    use_case: UseCaseArgument,
    *,
    to: Annotated[str | None, typer.Option("--to", help="A version; the champion before if left out.")] = None,
    json: AsJson = False,
) -> None:
    """Go back to the champion before, at once; what is rolled back is not promoted again by training."""
    from reference_system.flows import promotion as model_moves
    from reference_system.settings import load_settings

    _say(model_moves.roll_back(load_settings(), use_case.value, to), json=json)


def _bundles(settings: Settings) -> Path:
    from reference_system.paths import StatePaths

    return StatePaths(settings.state_dir).bundles


def _present(root: Path, use_case: str) -> str:
    from reference_system.errors import StateError
    from reference_system.registry.bundles.bundle import current_version

    version = current_version(root, use_case)
    if version is None:
        raise StateError(f"{use_case} has no champion yet", next_command=f"workbook train {use_case}")
    return version


def _registered(settings: Settings, use_case: str, *, quiet: bool) -> Sequence[Version]:
    """What MLflow knows; nothing if it is away, which is said."""
    from reference_system.errors import ServiceError
    from reference_system.registry import mlflow_rest

    try:
        return mlflow_rest.versions(settings.port("mlflow"), use_case)
    except ServiceError as error:
        if not quiet:
            typer.echo(f"{error}: only versions on this machine are shown", err=True)
        return ()


def _card(settings: Settings, use_case: str, version: str) -> str:
    """The card that training left here, or else the one in the registry.

    Raises:
        StateError: if there is neither.
    """
    from reference_system.errors import StateError
    from reference_system.registry import mlflow_rest
    from reference_system.registry.model_card import read_card

    card = read_card(_bundles(settings), use_case, version)
    if card is not None:
        return card
    known = {one.version: one.run_id for one in _registered(settings, use_case, quiet=True)}
    found = (
        mlflow_rest.artefact(settings.port("mlflow"), known[version], "model_card.md") if version in known else None
    )
    if found is None:
        raise StateError(
            f"{use_case} has no version {version} with a model card", next_command=f"workbook models list {use_case}"
        )
    return found.decode("utf-8", "replace")


def _print_rows(rows: Sequence[ModelRow]) -> None:
    """A table for each use case."""
    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.metrics.meanings import meanings_of

    console = reader_console()
    for use_case in dict.fromkeys(row.use_case for row in rows):
        own = [row for row in rows if row.use_case == use_case]
        metrics = {row.metric for row in own if row.metric}
        console.print(f"{use_case}: worth is {', '.join(metrics)} on its test rows" if metrics else use_case)
        print_table(_rows_table(own), console=console)
        for meaning in meanings_of(metrics):
            console.print(meaning + "\n", style="dim")


def _rows_table(rows: Sequence[ModelRow]) -> Table:
    from rich.table import Column, Table

    table = Table(
        Column("version", justify="right"),
        "stage",
        "since",
        "gate",
        "estimator",
        "learned from",
        "why",
        Column("worth", justify="right"),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # so that eight columns fit into 80
    )
    for row in rows:
        colour = _COLOURS.get(row.stage, "cyan" if row.stage.startswith("challenger") else "")
        estimator = (row.estimator or "not on this machine").replace("_", " ")
        table.add_row(
            row.version,
            f"[{colour}]{row.stage}[/{colour}]" if colour else row.stage,
            f"{row.since:%Y-%m-%d %H:%M}" if row.since else "",
            row.gate or "",
            row.problem or estimator,
            f"{row.learned_from:%Y-%m-%d} to {row.learned_until:%m-%d}" if row.learned_from else "",
            row.trigger or "",
            "" if row.value is None else f"{row.value:.4f}",
        )
    return table


def _worth(settings: Settings, use_cases: Sequence[str]) -> Sequence[PolicyWorth]:
    """What the latest monitoring report says that pages of these use cases are worth; payments have no pages."""
    from reference_system.monitoring.report.record import read_latest
    from reference_system.paths import StatePaths

    report = read_latest(StatePaths(settings.state_dir).reports)
    cases = report.use_cases if report else ()
    return [row for case in cases if case.use_case in use_cases for row in case.performance.worth]


def _print_worth(settings: Settings, worth: Sequence[PolicyWorth]) -> None:
    if not worth:
        return
    from reference_system.commands.terminal.recommendation_worth_table import PAGE_WORTH_NOTE, worth_table
    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.registry.bundles.bundle import current_version

    console = reader_console()
    console.print("recommendation: what a page is worth, by the latest monitoring report")
    print_table(worth_table(worth, current_version(_bundles(settings), "recommendation")), console=console)
    console.print(PAGE_WORTH_NOTE + "\n", style="dim")


def _say(moved: Moved, *, json: bool) -> None:
    import msgspec

    if json:
        typer.echo(msgspec.json.encode(moved))
        return
    typer.echo(f"{moved.use_case}: version {moved.version} is champion (before: {moved.previous or 'nobody'})")
    for note in moved.notes:
        typer.echo(f"  {note}")
