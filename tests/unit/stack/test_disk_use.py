"""What the state takes, how it grows, and when there is no room to go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.stack import disk_use as disk
from reference_system.stack.disk_use import MB, Usage, disk_use, growth, lack_of_room, remember_size
from reference_system.stack.machine import check_disk

NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SMALL_DISK_MB = 20


def fill(path: Path, megabytes: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(int(megabytes * MB)))


def test_the_state_is_measured_by_its_parts_the_largest_first(tmp_path):
    fill(tmp_path / "lake" / "watches" / "one.parquet", 1.0)
    fill(tmp_path / "lake" / "watches" / "two.parquet", 1.0)
    fill(tmp_path / "kafka" / "log", 3.0)
    found = disk_use(tmp_path, least_free_mb=0)
    assert list(found.parts) == ["kafka", "lake"]
    assert found.files == 3
    assert found.parts["kafka"] == pytest.approx(3.0, abs=0.1)
    assert found.total_mb == pytest.approx(5.0, abs=0.1)
    assert found.largest.startswith("kafka 3 MB, lake 2 MB")


def test_holes_take_nothing_and_links_are_not_followed(tmp_path):
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    fill(elsewhere / "file", 2.0)
    state.mkdir()
    (state / "link").symlink_to(elsewhere)
    with (state / "index").open("wb") as file:
        file.truncate(50 * MB)
    assert disk_use(state, least_free_mb=0).total_mb < 0.1


def test_a_state_that_does_not_exist_yet_takes_nothing(tmp_path):
    found = disk_use(tmp_path / "not" / "yet", least_free_mb=0)
    assert (found.total_mb, found.files, found.month_mb, found.problem) == (0, 0, None, None)
    assert found.free_mb > 0


def test_growth_is_told_in_a_simulated_month_once_enough_was_seen(tmp_path):
    for day in range(0, 12, 2):
        assert (growth(tmp_path) is None) == (day <= 4)
        fill(tmp_path / "lake" / f"{day}", 1.0)
        remember_size(tmp_path, NOON + day * DAY)
    assert growth(tmp_path) == pytest.approx(15.0, rel=0.05)


def test_growth_is_that_of_the_last_month(tmp_path):
    fill(tmp_path / "lake" / "large", 5.0)
    remember_size(tmp_path, NOON - 100 * DAY)
    remember_size(tmp_path, NOON - 90 * DAY)
    (tmp_path / "lake" / "large").unlink()
    for day in (0, 10, 20):
        remember_size(tmp_path, NOON + day * DAY)
    assert growth(tmp_path) == pytest.approx(0.0, abs=0.1)


def test_sizes_of_a_clock_that_went_back_are_forgotten_and_others_are_bounded(tmp_path):
    for day in range(200):
        remember_size(tmp_path, NOON + day * DAY)
    assert len(disk._remembered(tmp_path)) == 30
    remember_size(tmp_path, NOON)
    assert [size.moment for size in disk._remembered(tmp_path)] == [NOON]


@pytest.mark.parametrize("content", [b"", b"{", b'[{"moment":1}]'])
def test_remembered_sizes_that_cannot_be_read_are_begun_anew(tmp_path, content):
    (tmp_path / "disk.json").write_bytes(content)
    assert growth(tmp_path) is None
    remember_size(tmp_path, NOON)
    assert len(disk._remembered(tmp_path)) == 1


@pytest.mark.parametrize(
    ("free_mb", "stands", "lacks"),
    [(999, False, True), (1_000, False, False), (1_050, True, True), (1_100, True, False)],
)
def test_there_is_no_room_below_the_least_and_to_go_on_it_takes_a_tenth_more(tmp_path, free_mb, stands, lacks):
    usage = Usage(total=10**12, used=0, free=free_mb * MB)
    problem = lack_of_room(tmp_path, least_free_mb=1_000, stands=stands, usage=lambda _: usage)
    assert (problem is not None) == lacks
    if problem is not None:
        assert f"{free_mb:,} MB free" in problem
        assert "WORKBOOK_LEAST_FREE_MB" in problem


def test_a_running_system_is_told_what_is_largest_and_how_to_make_room(tmp_path):
    fill(tmp_path / "kafka" / "log", 2.0)
    check = check_disk(tmp_path, needed_gb=10**9)
    assert not check.ok
    assert "the state's largest: kafka 2 MB" in check.detail
    assert check.mend == "make clean"


def test_status_shows_the_disk_and_why_the_world_stands_still(tmp_path, monkeypatch):
    fill(tmp_path / "lake" / "file", 2.0)
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_LEAST_FREE_MB", str(10**12))
    result = CliRunner().invoke(app, ["status"])
    assert "2 in 1 files: lake 2 MB" in result.output
    assert "the world stands still until there is room; largest: lake 2 MB" in result.output
    assert "make clean" in result.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    size = f"size={SMALL_DISK_MB}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "none", str(tmp_path)],  # noqa: S607 - where it is differs
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)  # noqa: S607


def test_a_small_disk_that_fills_up_has_no_room_until_something_is_removed(small_disk):
    assert lack_of_room(small_disk, least_free_mb=5) is None
    fill(small_disk / "lake" / "file", SMALL_DISK_MB - 4)
    problem = lack_of_room(small_disk, least_free_mb=5)
    assert problem is not None
    assert str(small_disk) in problem
    (small_disk / "lake" / "file").unlink()
    assert lack_of_room(small_disk, least_free_mb=5, stands=True) is None
