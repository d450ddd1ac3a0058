"""`workbook release`: how far a version has come between the gate and being champion.

In: a use case, a version. Out: the stage with what it waits for; a release begun, or ended, by hand.
Invariant: nothing is released whose bundle was not verified; a release by hand meets the same guardrails as any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson, UseCaseArgument

if TYPE_CHECKING:
    from datetime import datetime

    from reference_system.paths import StatePaths
    from reference_system.registry.release.releases import Release

app = typer.Typer(help="A version between the gate and being champion: shadow, canary.", no_args_is_help=True)


@app.command("start")
def start(
    use_case: UseCaseArgument,
    version: Annotated[str, typer.Argument(help="A registered version with a bundle on this machine.")],
    *,
    json: AsJson = False,
) -> None:
    """Release a version by hand: into the shadow now, further as the guardrails allow."""
    import msgspec

    from reference_system.errors import StateError
    from reference_system.registry import promotion as promoting
    from reference_system.registry.bundles.bundle import current_version
    from reference_system.registry.release import releases
    from reference_system.settings import load_settings

    settings = load_settings()
    paths, name = _paths(), use_case.value
    champion = current_version(paths.bundles, name)
    if champion is None or champion == version:
        fact = (
            f"{name} has no champion yet" if champion is None else f"version {version} of {name} is champion already"
        )
        raise StateError(fact, next_command=f"workbook models list {name}")
    promoting.verify_version(paths.bundles, name, version)
    now = _now(paths)
    begun = releases.begin_release(
        paths.bundles, use_case=name, version=version, champion=champion, now=now, seed=settings.seed
    )
    if json:
        typer.echo(msgspec.json.encode(begun))
    else:
        typer.echo(_line(begun, now))
        typer.echo(f"watch it: `workbook release status`, `workbook timeline {name} --follow`")


@app.command("status")
def status(*, json: AsJson = False) -> None:
    """Say for each release that is on what it waits for, and what was measured at the last look."""
    import msgspec

    from reference_system.registry.release import releases
    from reference_system.use_case import USE_CASES

    paths = _paths()
    found = [releases.read_release(paths.bundles, use_case) for use_case in USE_CASES]
    going = [each for each in found if each is not None]
    if json:
        typer.echo(msgspec.json.encode({"releases": going}))
        return
    for each in going:
        typer.echo(_line(each, _now(paths)))
        for reason in each.reasons:
            typer.echo(f"  waits: {reason}")
        for name, value in each.figures.items():
            typer.echo(f"  {name} {value:.6g}")
    if not going:
        typer.echo("no release is on; `workbook models list` shows what was decided")


@app.command("stop")
def stop(
    use_case: UseCaseArgument,
    reason: Annotated[str, typer.Option("--reason", help="For the promotion log.")] = "stopped by hand",
    *,
    json: AsJson = False,
) -> None:
    """End the release of a use case: its version is rolled back, and the champion answers everybody."""
    import msgspec

    from reference_system.errors import StateError
    from reference_system.registry.release import releases

    paths, name = _paths(), use_case.value
    going = releases.read_release(paths.bundles, name)
    if going is None:
        raise StateError(f"no release of {name} is on", next_command="workbook release status")
    ended = releases.abort(paths.bundles, name, reason=reason, now=_now(paths))
    if ended is None:
        raise StateError(
            f"{name}: the release of version {going.version} had come to its end before it could be stopped",
            next_command=f"workbook timeline {name}",
        )
    if json:
        typer.echo(msgspec.json.encode(ended))
    else:
        typer.echo(f"{name}: version {ended.version} was rolled back; {ended.champion} answers everybody")


def _line(release: Release, now: datetime) -> str:
    hours = (now - release.since).total_seconds() / 3600
    return (
        f"{release.use_case}: version {release.version} in {release.stage} for {hours:.1f} simulated hours,"
        f" beside version {release.champion}"
    )


def _now(paths: StatePaths) -> datetime:
    from reference_system.clock import SimulatedClock

    return SimulatedClock(paths.clock).now()


def _paths() -> StatePaths:
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    return StatePaths(load_settings().state_dir)
