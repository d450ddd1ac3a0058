"""`workbook timeline`: the story of the models, with event times.

In: the promotion log, scenarios, the latest monitoring report. Out: what happened and how good the answers were, as
text, JSON or a picture.
Invariant: it reads three files and asks no service, so it works while the system is down.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import UseCaseName

if TYPE_CHECKING:
    from reference_system.paths import StatePaths
    from reference_system.timeline.story import Story

app = typer.Typer()

_FOLLOW_SECONDS = 1.0
_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
_PICTURES = (".png", ".svg", ".pdf")

UseCaseArgument = Annotated[UseCaseName | None, typer.Argument(help="Only this use case.")]
Since = Annotated[datetime | None, typer.Option("--since", formats=list(_FORMATS), help="From this event time on.")]
Follow = Annotated[bool, typer.Option("--follow", help="Go on, and print what happens until Ctrl-C.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Write a picture (.png, .svg, .pdf) instead.")]
AllAsJson = Annotated[bool, typer.Option("--json", help="Print JSON, all reasons and figures included.")]


@app.command("timeline")
def timeline(
    use_case: UseCaseArgument = None,
    *,
    since: Since = None,
    follow: Follow = False,
    plot: Plot = None,
    as_json: AllAsJson = False,
) -> None:
    """Tell what happened to the models: scenarios, alarms, trainings, gate, shadow, canary, champions, recovery."""
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    paths = StatePaths(load_settings().state_dir)
    first = None if since is None else since.replace(tzinfo=UTC)
    name = None if use_case is None else use_case.value
    story = _read(paths, name, first)
    if plot is not None:
        _draw(story, plot)
    elif as_json:
        import msgspec

        typer.echo(msgspec.json.encode(story))
    else:
        _show(story)
    if follow:
        _follow(paths, name, story, as_json=as_json)


def _read(paths: StatePaths, use_case: str | None, since: datetime | None) -> Story:
    from reference_system.monitoring.report.record import read_latest
    from reference_system.registry.promotion_log import read_decisions
    from reference_system.timeline.story import story_of
    from reference_system.world.scenarios import SCENARIOS, read_runs

    runs = read_runs(paths.world / SCENARIOS)
    report = read_latest(paths.reports)
    return story_of(read_decisions(paths.bundles), runs, report, use_case=use_case, since=since)


def _show(story: Story) -> None:
    from reference_system.commands.loop.timeline_tables import as_text
    from reference_system.commands.terminal.tables import reader_console

    reader_console().print(as_text(story), soft_wrap=False)


def _draw(story: Story, path: Path) -> None:
    from reference_system.errors import StateError

    if path.suffix not in _PICTURES:
        raise StateError(f"{path} is no picture's name: it should end in {', '.join(_PICTURES)}")
    if not path.parent.is_dir():
        raise StateError(f"there is no folder {path.parent}", next_command=f"mkdir -p {path.parent}")
    from reference_system.timeline.matplotlib_story import draw_story

    draw_story(story, path)
    typer.echo(f"picture: {path}")


def _follow(paths: StatePaths, use_case: str | None, story: Story, *, as_json: bool) -> None:
    """Print each new happening, oldest first, until the person has seen enough."""
    import msgspec

    from reference_system.commands.loop.timeline_tables import news_of
    from reference_system.commands.terminal.tables import reader_console

    console = reader_console()
    seen = set(map(_identity, story.happenings))
    while True:
        time.sleep(_FOLLOW_SECONDS)
        for each in _read(paths, use_case, None).happenings:
            if _identity(each) in seen:
                continue
            seen.add(_identity(each))
            if as_json:
                typer.echo(msgspec.json.encode(each))
            else:
                console.print(news_of(each), soft_wrap=False)


def _identity(each: object) -> bytes:
    import msgspec

    return msgspec.json.encode(each)
