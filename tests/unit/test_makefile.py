from __future__ import annotations

import os
import re
import subprocess

import pytest

from reference_system.paths import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "Makefile").read_text()
TARGETS = {"up", "down", "restart", "status", "logs", "doctor", "clean", "test", "lint", "format", "load", "lock"}
TARGETS |= {"test-unit", "test-integration", "test-e2e", "design-check", "test-interpreter"}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],  # noqa: S607 - the reader's make
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_is_the_default_and_documents_every_target() -> None:
    listed = re.findall(r"^  make (\S+)\s+\S", make().stdout, re.MULTILINE)

    assert set(listed) >= TARGETS
    assert make("help").stdout == make().stdout


def test_every_documented_target_is_phony() -> None:
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)

    assert phony is not None
    assert set(re.findall(r"^([a-z-]+):.*## ", TEXT, re.MULTILINE)) <= set(phony[1].split())


@pytest.mark.parametrize("target", ["up", "test"])
def test_a_wrong_python_is_one_line_that_says_what_to_do(target: str) -> None:
    result = make(target, "PYTHON=python-that-is-not-there")

    ours = [line for line in result.stderr.splitlines() if not line.startswith("make:")]
    assert result.returncode != 0
    fact = "python-that-is-not-there is missing, Python 3.11, 3.12 or 3.13 is needed"
    assert ours == [f"{fact}; name one: `make up PYTHON=python3.12`"]
    assert result.stdout == ""
