"""`workbook drill corrupt-bundle` and `bad-candidate`: what must never answer, offered again and again.

In: how often, a seed. Out: what became of each, as a table or JSON; exit code 1 if anything got through.
Invariant: both work in a folder of their own; the live system is not touched.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_system.proofs.bad_models.fraud_candidates import CandidatesReport

app = typer.Typer()

Times = Annotated[int, typer.Option(min=1, max=100_000, help="How often.")]
FaultSeed = Annotated[int, typer.Option(min=0, help="Seed of the faults.")]
# Measured: seconds of CPU for one candidate, and for one damaged bundle.
_CANDIDATE_SECONDS, _BUNDLE_SECONDS = 2.3, 0.005


@app.command("corrupt-bundle")
def corrupt_bundle(*, times: Times = 1_000, seed: FaultSeed = 1, json: AsJson = False) -> None:
    """Damaged and mismatched bundles before the verifier that serving uses; none may be loaded."""
    import msgspec

    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    begin_proof(f"corrupt-bundle: offers {times:,} damaged bundles: about {1 + _BUNDLE_SECONDS * times:.0f} seconds")
    from reference_system.proofs.bad_models.corrupt_bundles import corrupt_bundles

    with progress_bar() as progress:
        report = corrupt_bundles(times=times, seed=seed, progress=progress)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        _print_counts(("damage", "refused"), [(kind, f"{count:,}") for kind, count in report.refused.items()])
        for problem in report.problems:
            typer.secho(problem, fg=typer.colors.RED)
        verdict = "passed" if report.passed else "FAILED"
        typer.echo(
            f"corrupt-bundle with seed {seed} {verdict}: {report.loaded} of {times:,} loaded,"
            f" the old version served all the time after {report.still_serving:,} ({report.seconds:.0f} s)"
        )
    if not report.passed:
        raise typer.Exit(1)


@app.command("bad-candidate")
def bad_candidate(*, times: Times = 100, seed: FaultSeed = 1, json: AsJson = False) -> None:
    """Trainings with a planted fault before the gate and the guardrails; none may become champion, sound ones must."""
    import msgspec

    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    begin_proof(
        f"bad-candidate: trains {times:,} bad candidates: about {(20 + 1.2 * _CANDIDATE_SECONDS * times) / 60:.0f} min"
    )
    from reference_system.proofs.bad_models.fraud_candidates import bad_candidates

    with progress_bar() as progress:
        report = bad_candidates(times=times, seed=seed, progress=progress)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        _print_candidates(report)
    if not report.passed:
        raise typer.Exit(1)


def _print_candidates(report: CandidatesReport) -> None:
    outcomes = ("refused", "held", "rolled back", "promoted")
    found = Counter((one.planted, one.outcome) for one in report.candidates)
    names = list(dict.fromkeys(one.planted for one in report.candidates))
    rows = [(name, *(f"{found[name, outcome] or ''}" for outcome in outcomes)) for name in names]
    _print_counts(("planted", *outcomes), rows)
    for one in report.candidates:
        if (one.outcome == "promoted") == (one.planted != "none"):
            typer.secho(f"{one.planted}: {one.outcome}: {one.reason}", fg=typer.colors.YELLOW)
    verdict = "passed" if report.passed else "FAILED"
    typer.echo(
        f"bad-candidate with seed {report.seed} {verdict}: {report.stopped} of {report.times} bad ones stopped,"
        f" {report.promoted} of {report.controls} sound ones promoted ({report.seconds:.0f} s)"
    )


def _print_counts(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table

    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(head):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print_table(table)
