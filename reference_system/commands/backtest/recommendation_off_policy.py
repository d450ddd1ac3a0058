"""`workbook backtest off-policy`: what a ranker's pages would have brought, from logged pages drawn by chance.

In: a version of the ranker, by default the champion. Out: three estimates with intervals, and what was logged.
Invariant: only pages that came after the version was trained are used; too few of them are refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from datetime import datetime

    from reference_system.paths import StatePaths
    from reference_system.registry.bundles.bundle import Bundle
    from reference_system.training.recommendation.off_policy import OffPolicyReport
    from reference_system.training.recommendation.video_tables import Videos, VideoTables
    from reference_system.training.temporal_split import Span

app = typer.Typer()
_USE_CASE = "recommendation"
_PAGES = 5_000


@app.command("off-policy")
def off_policy(
    *,
    version: Annotated[
        str | None, typer.Option("--version", metavar="N", help="A version of the ranker.", show_default="champion")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=90, help="At most so many of the last days.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Judge a ranker by pages that it did not choose: inverse propensity, self-normalised, doubly robust."""
    from reference_system.commands.terminal.on_demand import flow_settings

    settings = flow_settings()
    from reference_system.features.feast import store as feast_store
    from reference_system.paths import StatePaths
    from reference_system.training.recommendation.logged_pages import logged_pages
    from reference_system.training.recommendation.off_policy import OffPolicyReport, estimate_off_policy
    from reference_system.training.recommendation.video_tables import read_videos

    paths = StatePaths(settings.state_dir)
    bundle = _bundle(paths, version)
    span = _window(paths, bundle.manifest.created_timestamp, days)
    store = feast_store.open_store(paths)
    videos = read_videos(paths.lake, span.end)
    logged = logged_pages(
        paths.lake,
        span,
        videos,
        _tables(bundle, videos),
        lambda entities, views: feast_store.historical(store, entities, views),
        most=_PAGES,
        seed=settings.seed,
    )
    report = OffPolicyReport(
        version=bundle.manifest.model_version,
        start=span.start.isoformat(),
        end=span.end.isoformat(),
        result=estimate_off_policy(logged.beside(bundle.scorer.score), seed=settings.seed),
    )
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _print(report)


def _bundle(paths: StatePaths, version: str | None) -> Bundle:
    from reference_system.errors import StateError
    from reference_system.registry.bundles.bundle import current_version, load_bundle, version_folder
    from reference_system.use_cases.recommendation.features import INPUTS

    chosen = version or current_version(paths.bundles, _USE_CASE)
    if chosen is None:
        raise StateError("there is no champion for recommendation yet", next_command="workbook train recommendation")
    folder = version_folder(paths.bundles, _USE_CASE, chosen)
    if not folder.is_dir():
        raise StateError(
            f"version {chosen} of recommendation has no bundle here",
            next_command="workbook models list recommendation",
        )
    return load_bundle(folder, use_case=_USE_CASE, inputs=INPUTS)


def _window(paths: StatePaths, trained: datetime, days: int) -> Span:
    """From the training to where outcomes are mature and features known, and at most so many days.

    Raises:
        StateError: if there is no such window yet.
    """
    from reference_system.clock import SimulatedClock
    from reference_system.errors import StateError
    from reference_system.features.feast.feature_tables import complete_until
    from reference_system.training.temporal_split import Span
    from reference_system.use_cases.recommendation.labels import ATTRIBUTION

    known = complete_until(paths.feature_tables)
    if known is None:
        raise StateError("there are no feature tables yet", next_command="workbook etl")
    settled = SimulatedClock(paths.clock).now() - ATTRIBUTION
    end = min(settled, known)
    start = max(trained, end - timedelta(days=days))
    if start >= end:
        raise StateError(
            f"the version was trained at {trained:%Y-%m-%d %H:%M}, and outcomes and features are known up to"
            f" {end:%Y-%m-%d %H:%M}: nothing can judge it yet",
            next_command="workbook etl" if known < settled else "workbook status",
        )
    return Span(start=start, end=end)


def _tables(bundle: Bundle, videos: Videos) -> VideoTables:
    """What the version's bundle knows of the videos.

    Raises:
        StateError: if its catalogue is not the beginning of the lake's.
    """
    from reference_system.errors import StateError
    from reference_system.training.recommendation.video_tables import VideoTables
    from reference_system.use_cases.recommendation.model import Neighbours

    found = bundle.catalogue
    if found is None or found.video_ids.tolist() != videos.ids[: len(found.video_ids)].tolist():
        raise StateError(
            f"the catalogue of version {bundle.manifest.model_version} is not that of this lake",
            next_command="workbook train recommendation",
        )
    return VideoTables(
        videos=videos,
        neighbours=Neighbours(items=found.neighbour_items, similarities=found.neighbour_similarities),
        vectors=found.factors,
        popular=found.popular,
    )


def _print(report: OffPolicyReport) -> None:
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table, reader_console

    result = report.result
    console = reader_console()
    console.print(
        f"version {report.version}, {report.start} to {report.end}: {result.pages:,} pages of {result.viewers:,}"
        f" viewers, {result.matched:,} places match, worth {result.effective:.0f} without weights",
        style="dim",
    )
    table = Table("watches a page", "estimate", "95 % interval")
    for name, estimate in (
        ("doubly robust", result.doubly_robust),
        ("self-normalised", result.self_normalised),
        ("inverse propensity", result.inverse_propensity),
        ("as shown, unweighted (biased)", result.naive),
        ("what was logged brought", result.logged),
    ):
        table.add_row(name, f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}")
    print_table(table, console=console)
    console.print(f"weights are cut at {result.clip:g}: {result.clipped_share:.1%} of them", style="dim")
