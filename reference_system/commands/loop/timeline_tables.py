"""The story of the models as a person reads it in a terminal.

In: a story. Out: a table of what happened, and a bar for each day.
Invariant: a day whose labels are not mature says "so far"; a figure that is not known is a dash; * is the champion.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from reference_system.commands.terminal.recommendation_worth_table import (
    PAGE_WORTH_NOTE,
    interval_text,
    per_page,
    worth_table,
)
from reference_system.commands.terminal.tables import Fitted
from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.metrics.meanings import meanings_of
from reference_system.monitoring.fraud.champion_comparison import DayOfPayments
from reference_system.timeline.story import PageDay, Story, StoryLine

_BAR = 8
_LEGEND = "v1, v2: each version on the same payments; * champion, (…) it learned from the day; so far: labels of now"
_BLOCKS = " ▏▎▍▌▋▊▉█"
_COLOURS = {
    "scenario": "magenta",
    "alarm": "red",
    "retraining": "yellow",
    "skipped": "dim",
    "champion": "green",
    "rolled back": "red",
    "canary": "cyan",
    "shadow": "cyan",
}


def as_text(story: Story) -> RenderableType:
    """Everything, one under the other."""
    parts: list[RenderableType] = [Fitted(happenings_table(story.happenings))]
    if not story.happenings:
        parts = [Text("nothing has been decided about models yet; `make up` trains the first ones")]
    if story.figures_as_of is None:
        parts.append(Text("no figures yet: the first monitoring report writes them; run `workbook monitor run`"))
    if story.fraud_days:
        parts += [
            Text(f"\nfraud: average precision by day of the payment, as of {_minute(story)}"),
            Fitted(fraud_table(story)),
            Text(_LEGEND, style="dim"),
            _explained("average_precision"),
        ]
    if story.recommendation_days:
        parts += [
            Text(f"\nrecommendation: watches a page by day, pages of models, as of {_minute(story)}"),
            Fitted(page_table(story)),
            _explained("ndcg@10"),
        ]
    if story.worth:
        parts += [
            Text(f"\nrecommendation: what a page is worth, as of {_minute(story)}"),
            Fitted(worth_table(story.worth, story.champions.get("recommendation"))),
            Text(PAGE_WORTH_NOTE, style="dim"),
        ]
    parts += [Text(f"{name}: {text}", style="dim") for name, text in story.rulings.items()]
    return Group(*parts)


def happenings_table(happenings: tuple[StoryLine, ...]) -> Table:
    """What happened, in the order of event time."""
    table = Table(
        Column("event time", no_wrap=True),
        Column("use case", no_wrap=True),
        Column("what", no_wrap=True),
        Column("version", no_wrap=True),
        Column("why", overflow="fold"),
        box=None,
    )
    for each in happenings:
        table.add_row(*line_of(each))
    return table


def news_of(each: StoryLine) -> RenderableType:
    """One happening as it is told while it is followed: what and when, and below it why."""
    moment, use_case, what, versions, why = line_of(each)
    version = f", version {versions}" if versions else ""
    return Group(Text.assemble(f"{moment}  {use_case}: ", what, version), Padding(Text(why), (0, 0, 0, 4)))


def line_of(each: StoryLine) -> tuple[str, str, Text, str, str]:
    """One line of the story."""
    versions = each.version or ""
    if each.previous and each.previous != each.version:
        versions = f"{each.version} (after {each.previous})" if each.version else f"({each.previous})"
    what = Text(each.kind, style=_COLOURS.get(each.kind, ""))
    return f"{each.event_timestamp:%Y-%m-%d %H:%M}", each.use_case, what, versions, each.text


def fraud_table(story: Story) -> Table:
    """For each day: what was answered, and every version on the same payments."""
    champion = story.champions.get("fraud")
    versions = sorted({version for day in story.fraud_days for version in day.average_precision}, key=_number)
    table = Table(
        Column("day", no_wrap=True),
        Column("frauds", justify="right", no_wrap=True),
        Column("as answered", no_wrap=True),
        Column("by", no_wrap=True),
        *(Column(f"v{name}{'*' if name == champion else ''}", justify="right", no_wrap=True) for name in versions),
        Column("estimate", justify="right", no_wrap=True),
        Column("labels", no_wrap=True),
        box=None,
    )
    for day in story.fraud_days:
        table.add_row(*_fraud_row(day, versions))
    return table


def page_table(story: Story) -> Table:
    """For each day and version: how much of its pages was watched, and of those drawn by chance."""
    table = Table(
        Column("day", no_wrap=True),
        Column("version", no_wrap=True),
        Column("pages", justify="right", no_wrap=True),
        Column("watches a page", no_wrap=True),
        Column("95 %", no_wrap=True),
        Column("by chance", no_wrap=True),
        Column("ndcg@10", justify="right", no_wrap=True),
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    highest = max((day.watches.value for day in story.recommendation_days if day.watches), default=0.0)
    for day in story.recommendation_days:
        table.add_row(*_page_row(day, highest))
    return table


def _fraud_row(day: DayOfPayments, versions: list[str]) -> list[str]:
    return [
        _day(day.day),
        str(day.frauds),
        f"{_figure(day.answered)} {_bar(day.answered, 1.0)}",
        ", ".join(day.answered_by),
        *(_of_version(day, version) for version in versions),
        _figure(day.estimate.average_precision if day.estimate else None),
        "mature" if day.mature else "so far",
    ]


def _of_version(day: DayOfPayments, version: str) -> str:
    figure = _figure(day.average_precision.get(version))
    return f"({figure})" if version in day.learned_by else figure


def _page_row(day: PageDay, highest: float) -> list[str]:
    watches = day.watches
    shown = "–" if watches is None else f"{watches.value:.2f} {_bar(watches.value, highest)}"
    bounds = "–" if watches is None else interval_text(watches)
    return [_day(day.day), day.version, str(day.pages), shown, bounds, per_page(day.by_chance), _figure(day.ndcg)]


def _explained(metric: str) -> Text:
    return Text("\n".join(meanings_of([metric])), style="dim")


def _bar(value: float | None, highest: float) -> str:
    eighths = 0 if value is None or highest <= 0.0 else round(value / highest * _BAR * 8)
    whole, rest = divmod(eighths, 8)
    return (_BLOCKS[-1] * whole + _BLOCKS[rest].strip()).ljust(_BAR)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _day(day: int) -> str:
    return f"{moment_of(day * MICROS_PER_DAY):%Y-%m-%d}"


def _minute(story: Story) -> str:
    return f"{story.figures_as_of:%Y-%m-%d %H:%M}" if story.figures_as_of else "–"


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0
