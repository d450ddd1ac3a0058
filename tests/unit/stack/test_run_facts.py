"""A measurement says where it was made."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from reference_system.stack.run_facts import commit_of, cpu_model, run_facts

GIT = shutil.which("git") or "git"


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run([GIT, *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_facts_name_machine_and_versions():
    facts = run_facts("numpy")
    assert facts.machine.cores is not None
    assert facts.machine.memory_gb > 0
    assert facts.versions["numpy"] == metadata.version("numpy")


def test_a_commit_is_dirty_once_a_file_differs(tmp_path: Path):
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    clean = commit_of(tmp_path)
    (tmp_path / "file").write_text("two")
    dirty = commit_of(tmp_path)
    assert clean is not None
    assert dirty is not None
    assert (clean.dirty, dirty.dirty) == (False, True)
    assert clean.id == dirty.id


def test_a_folder_outside_of_a_repository_has_no_commit(tmp_path: Path):
    assert commit_of(tmp_path) is None


def test_the_processor_is_named_as_linux_names_it(tmp_path: Path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some Processor @ 3 GHz\n")
    assert cpu_model(cpuinfo) == "Some Processor @ 3 GHz"


def test_a_processor_without_a_name_is_not_guessed(tmp_path: Path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\n")
    assert cpu_model(cpuinfo) is None
