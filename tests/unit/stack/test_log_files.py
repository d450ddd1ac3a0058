from __future__ import annotations

from pathlib import Path

import pytest

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.stack.log_files import follow, log_path, tail


def test_the_tail_is_the_last_lines_however_long_the_file(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number} {'x' * 200}\n" for number in range(5_000)))

    assert [line.split()[1] for line in tail(log, 3)] == ["4997", "4998", "4999"]
    assert len(tail(log, 1_000)) == 1_000
    assert tail(log, 0) == []


def test_a_short_or_missing_log_gives_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"one\nnot utf-8: \xff\nno newline at the end")

    assert tail(tmp_path / "a.log", 10) == ["one", "not utf-8: �", "no newline at the end"]
    assert tail(tmp_path / "missing.log", 10) == []


def test_following_sees_what_is_appended_and_goes_on_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old old old\n")
    lines = follow(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: log.write_text("old old old\nnew\n"))
        assert next(lines) == "new\n"
        patch.setattr("time.sleep", lambda _: log.write_text("rotated\n"))
        assert next(lines) == "rotated\n"


def test_a_name_that_is_no_log_lists_those_that_are(settings: Settings) -> None:
    folder = StatePaths(settings.state_dir).logs
    folder.mkdir(parents=True)
    for name in ("kafka", "history"):
        (folder / f"{name}.log").touch()

    assert log_path(settings, "kafka") == folder / "kafka.log"
    with pytest.raises(StateError, match=r"no log called '\.\./secret' \(there are history, kafka\)"):
        log_path(settings, "../secret")
