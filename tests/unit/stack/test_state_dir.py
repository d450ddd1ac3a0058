from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reference_system.errors import StateError
from reference_system.settings import Settings
from reference_system.stack.state_dir import (
    STATE_FILE,
    is_done,
    mark_done,
    own_names,
    prepare_state_dir,
    refuse_foreign,
    remove_state_dir,
)


def test_it_is_private_and_can_be_prepared_twice(settings: Settings) -> None:
    prepare_state_dir(settings)
    prepare_state_dir(settings)

    assert stat.S_IMODE(settings.state_dir.stat().st_mode) == 0o700


def test_the_history_of_another_world_is_refused(settings: Settings) -> None:
    prepare_state_dir(settings)
    other = settings.model_copy(update={"customers": 77})

    with pytest.raises(StateError, match="generated with customers=100, the settings say 77") as caught:
        prepare_state_dir(other)
    assert caught.value.next_command == "make clean"


def test_another_speed_or_port_is_the_same_world(settings: Settings) -> None:
    prepare_state_dir(settings)

    prepare_state_dir(settings.model_copy(update={"speed": 1.0, "port_offset": 1}))


def test_a_damaged_state_file_says_what_to_do(settings: Settings) -> None:
    prepare_state_dir(settings)
    (settings.state_dir / STATE_FILE).write_text('{"values": ')

    with pytest.raises(StateError, match=r"state\.json cannot be read") as caught:
        prepare_state_dir(settings)
    assert caught.value.next_command == "make clean"


def test_a_step_is_done_only_when_it_was_marked(settings: Settings) -> None:
    prepare_state_dir(settings)
    assert not is_done(settings, "history")

    mark_done(settings, "history")

    assert is_done(settings, "history")
    assert not is_done(settings, "bootstrap")


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()

    with pytest.raises(StateError, match="holds 'letters', which this system did not write"):
        remove_state_dir(tmp_path)
    assert (tmp_path / "letters").exists()


def killed_while_it_writes(path: Path) -> None:
    """A process that dies between a file's draft and the file."""
    program = """
import os, sys
from pathlib import Path
from reference_system.replaced_files import replacing
with replacing(Path(sys.argv[1])) as draft:
    draft.write_bytes(b"half of th")
    os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == 9


def test_a_kill_while_the_state_file_is_written_leaves_a_folder_that_is_ours(settings: Settings) -> None:
    killed_while_it_writes(settings.state_dir / STATE_FILE)
    assert [path.name for path in settings.state_dir.iterdir()] != []

    refuse_foreign(settings.state_dir)
    prepare_state_dir(settings)
    remove_state_dir(settings.state_dir)

    assert list(settings.state_dir.iterdir()) == []


@pytest.mark.parametrize("name", [".state.json.letter", ".state.json.", "state.json.draft", ".lake.0123abcd"])
def test_what_only_looks_like_a_draft_is_somebody_elses(settings: Settings, name: str) -> None:
    prepare_state_dir(settings)
    (settings.state_dir / name).touch()

    with pytest.raises(StateError, match="which this system did not write"):
        refuse_foreign(settings.state_dir)


def test_removal_says_how_much_it_was(settings: Settings) -> None:
    prepare_state_dir(settings)
    (settings.state_dir / "lake").mkdir()
    (settings.state_dir / "lake" / "part.parquet").write_bytes(b"x" * 3_000_000)

    assert remove_state_dir(settings.state_dir) == pytest.approx(3.0, abs=0.01)
    assert list(settings.state_dir.iterdir()) == []


def test_removal_follows_no_link_out(settings: Settings, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    prepare_state_dir(settings)
    (settings.state_dir / "lake").symlink_to(precious)
    (settings.state_dir / "logs").mkdir()
    (settings.state_dir / "logs" / "link").symlink_to(precious)

    remove_state_dir(settings.state_dir)

    assert (precious / "file").read_text() == "x"


def test_a_state_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(StateError, match="is a symbolic link"):
        refuse_foreign(tmp_path / "link")


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="is a file"):
        refuse_foreign(tmp_path / "file")


def test_every_place_of_the_map_is_known() -> None:
    assert own_names() >= {"lake", "kafka", "mlflow", "logs", "serving", "feast", "lock"}
