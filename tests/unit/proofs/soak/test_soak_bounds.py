"""What a soak calls flat: leaks that are planted into two hours of samples are each found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from reference_system.commands.proofs import drill_soak
from reference_system.proofs.soak.bounds import Judged, check_bounds, rules
from reference_system.proofs.soak.matplotlib_soak import draw_soak
from reference_system.proofs.soak.sampler import Sample
from reference_system.proofs.soak.soak import SoakReport
from reference_system.settings import Settings
from reference_system.stack.services import services

NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)
SECONDS, BETWEEN = 7_200, 30
SETTINGS = Settings(_env_file=None)
FLOWS = {"etl": 4, "monitor": 1, "train-fraud": 10, "train-recommendation": 10}
FLOWS |= {"score-batch-fraud": 10, "score-batch-recommendation": 10}


def flat(seed: int = 1, seconds: int = SECONDS) -> list[Sample]:
    """A healthy system: everything moves, nothing rises; memory fills and the first models come while it warms up."""
    rng = np.random.default_rng(seed)
    samples = []
    for number, at in enumerate(range(0, seconds + 1, BETWEEN)):
        warm = min(at / (seconds / 4), 1.0)
        training = 300.0 * (at % 300 < 60)
        since_compaction = at % 120
        figures = {
            "services": 7.0,
            "small files": 2_000 * warm + 8 * since_compaction / BETWEEN,
            "files on disk": 3_000 * warm,
            "disk of all (MB)": 900 + 400 * at / 3_600,  # 200 MB in a simulated month
            "monitor behind (h)": 12 + 24 * rng.uniform(),
            "etl behind (h)": 4 + 48 * rng.uniform(),
            "records waiting": float(rng.integers(0, 200)),
            "freshness p99 (ms)": 40 + 20 * rng.uniform(),
            "locked databases": 0.0,
            "tracebacks": 2.0,
            "cpu of all (s)": 0.5 * at,
        }
        for service in services(SETTINGS):
            figures[f"memory of {service.name} (MB)"] = 250 + 100 * warm + 5 * rng.normal()
        figures["memory of flows (MB)"] += training
        for name, every in FLOWS.items():
            if number % every == 0:
                figures[f"late: {name} (s)"] = float(rng.uniform(0, 10))
        samples.append(Sample(seconds=float(at), event_time=NOON + timedelta(minutes=at), figures=figures))
    return samples


def planted(change: Callable[[float, dict[str, float]], None]) -> list[Sample]:
    samples = []
    for sample in flat():
        figures = dict(sample.figures)
        change(sample.seconds / 3_600, figures)
        samples.append(msgspec.structs.replace(sample, figures=figures))
    return samples


def broken(samples: list[Sample]) -> set[str]:
    return {f"{one.figure}, {one.measure}" for one in check_bounds(samples, SETTINGS) if not one.holds}


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_system_is_flat(seed):
    assert broken(flat(seed)) == set()


def adds(name: str, an_hour: float) -> Callable[[float, dict[str, float]], None]:
    def change(hours: float, figures: dict[str, float]) -> None:
        if name in figures:
            figures[name] += an_hour * hours

    return change


def put(name: str, value: float, *, after: float = 0.0) -> Callable[[float, dict[str, float]], None]:
    def change(hours: float, figures: dict[str, float]) -> None:
        if name in figures and hours >= after:
            figures[name] = value

    return change


def without(name: str, *, after: float = 0.0) -> Callable[[float, dict[str, float]], None]:
    def change(hours: float, figures: dict[str, float]) -> None:
        if hours >= after:
            figures.pop(name, None)

    return change


LEAKS = {
    "memory of one service, behind its trainings": (
        adds("memory of flows (MB)", 60.0),
        {"memory of flows (MB), rise"},
    ),
    "memory of a service that hardly moves": (adds("memory of kafka (MB)", 25.0), {"memory of kafka (MB), rise"}),
    "files that stay": (adds("small files", 2_000.0), {"small files, rise"}),
    "a disk that fills": (adds("disk of all (MB)", 1_000.0), {"disk of all (MB), month"}),
    "a monitor that falls behind": (
        adds("monitor behind (h)", 34.0),
        {"monitor behind (h), level", "monitor behind (h), rise"},
    ),
    "an ETL that falls behind": (adds("etl behind (h)", 60.0), {"etl behind (h), level", "etl behind (h), rise"}),
    "an ETL that has stopped": (put("etl behind (h)", 500.0, after=0.5), {"etl behind (h), level"}),
    "records that wait": (adds("records waiting", 5_000.0), {"records waiting, level", "records waiting, rise"}),
    "features that are late": (put("freshness p99 (ms)", 2_000.0), {"freshness p99 (ms), level"}),
    "one locked database": (put("locked databases", 1.0, after=1.5), {"locked databases, new"}),
    "one traceback": (put("tracebacks", 3.0, after=1.5), {"tracebacks, new"}),
    "a busy system": (adds("cpu of all (s)", 0.2 * 3_600), {"cpu of all (s), rate"}),
    "a service that was gone for a moment": (put("services", 6.0, after=1.99), {"services, fewest"}),
    "flows that start late": (put("late: monitor (s)", 80.0), {"late: monitor (s), high"}),
    "a flow that never starts": (without("late: train-fraud (s)"), {"late: train-fraud , high"}),
    "a flow that starts no more": (without("late: etl (s)", after=0.7), {"late: etl , high"}),
    "a figure that cannot be had": (without("freshness p99 (ms)"), {"freshness p99, level"}),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_is_planted_is_found_and_nothing_else(leak):
    change, expected = LEAKS[leak]
    assert broken(planted(change)) == expected


def test_every_rule_has_a_leak_that_breaks_it():
    named = {tuple(name.rsplit(", ", 1)) for _, expected in LEAKS.values() for name in expected}
    for rule in rules(SETTINGS, SECONDS):
        like = "late: monitor" if rule.figure.startswith("late: ") else rule.figure
        assert any(name.startswith(like) and measure == rule.measure for name, measure in named), rule


def test_what_happens_while_it_warms_up_is_not_judged():
    def change(hours: float, figures: dict[str, float]) -> None:
        if hours < 0.5:
            figures |= {"tracebacks": 0.0, "locked databases": 0.0, "services": 5.0, "records waiting": 1e6}

    assert broken(planted(change)) == set()


def test_of_flows_that_can_hardly_begin_within_a_short_soak_nothing_is_asked():
    asked = {rule.figure for rule in rules(SETTINGS, 60.0) if rule.figure.startswith("late:")}
    assert asked == set()
    assert "late: etl " not in {rule.figure for rule in rules(SETTINGS, 900.0)}
    assert "late: monitor " in {rule.figure for rule in rules(SETTINGS, 900.0)}


def test_the_picture_has_a_panel_for_everything_and_survives_what_is_missing():
    assert draw_soak(flat(), title="flat").startswith(b"\x89PNG")
    bare = [Sample(seconds=float(at), event_time=None, figures={"memory of kafka (MB)": 1.0}) for at in range(3)]
    assert draw_soak(bare, title="bare").startswith(b"\x89PNG")


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The command with a soak that has been made already."""
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))

    def command(samples: list[Sample], *arguments: str, problems: tuple[str, ...] = ()):
        judged = check_bounds(samples, SETTINGS)
        report = SoakReport(
            minutes=120.0, samples=samples, judged=judged, problems=list(problems), verify_seconds=21.0
        )
        monkeypatch.setattr("reference_system.proofs.soak.soak.run_soak", lambda *_, **__: report)
        return CliRunner().invoke(drill_soak.app, list(arguments)), report

    return command


def test_the_table_fits_80_columns_and_says_what_is_flat(found, tmp_path):
    result, _ = found(flat())
    assert result.exit_code == 0, result.output
    table = [line for line in result.stdout.splitlines() if line.rstrip().endswith(("yes", "NO", "flat"))]
    assert len(table) > 25
    assert all(len(line) <= 80 for line in table)
    assert not any("…" in line for line in table)
    assert "soak of 120 minutes passed; the ledger holds (verify took 21 s)" in result.stdout
    (kept,) = (tmp_path / "bench").glob("soak-*.json")
    assert {"command", "moment", "facts", "result"} == msgspec.json.decode(kept.read_bytes()).keys()
    assert kept.with_suffix(".png").exists()


def test_what_is_not_flat_fails_the_command_and_so_does_the_ledger(found):
    change, _ = LEAKS["files that stay"]
    result, _ = found(planted(change))
    assert result.exit_code == 1
    assert "NO" in next(line for line in result.stdout.splitlines() if line.startswith("small files"))
    result, _ = found(flat(), problems=("watches: one is lost; next: make clean",))
    assert result.exit_code == 1
    assert "the ledger does NOT hold" in result.stdout
    assert "watches: one is lost" in result.stdout


def test_programs_get_the_report_whole(found):
    result, report = found(flat(), "--json")
    assert msgspec.json.decode(result.stdout, type=SoakReport) == report
    assert all(isinstance(one, Judged) for one in report.judged)
