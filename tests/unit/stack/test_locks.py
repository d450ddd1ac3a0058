from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reference_system.errors import StateError
from reference_system.stack.locks import one_at_a_time


def test_the_second_is_told_who_is_at_work(tmp_path: Path) -> None:
    with (
        one_at_a_time(tmp_path, "up"),
        pytest.raises(StateError, match=rf"`workbook up` \(pid {os.getpid()}\) is at work"),
        one_at_a_time(tmp_path, "down"),
    ):
        pass


def test_no_lock_is_left_whatever_happens_inside(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(KeyboardInterrupt), one_at_a_time(tmp_path, "up"):
        raise KeyboardInterrupt

    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with one_at_a_time(tmp_path, "up"):
        pass


def test_a_folder_that_held_only_the_lock_goes_with_it(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path / "state", "down"):
        pass

    assert not (tmp_path / "state").exists()


def test_the_lock_of_a_killed_process_is_nobodys(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from reference_system.stack.locks import one_at_a_time\n"
        "with one_at_a_time(pathlib.Path(sys.argv[1]), 'up'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert (tmp_path / "lock").exists()

    with one_at_a_time(tmp_path, "up"):
        pass
