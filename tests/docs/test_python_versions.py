"""Every place that names the supported Pythons names the same ones."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from reference_system.paths import PROJECT_ROOT
from reference_system.stack.machine import check_python

PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIRED = PROJECT["project"]["requires-python"]
MINORS = [minor for minor in range(100) if f"3.{minor}.99" in SpecifierSet(REQUIRED)]
VERSIONS = [f"3.{minor}" for minor in MINORS]
IN_WORDS = f"Python {', '.join(VERSIONS[:-1])} or {VERSIONS[-1]}"


def text(name: str) -> str:
    return (PROJECT_ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "times"), [("README.md", 1), ("Makefile", 2)])
def test_what_a_person_reads_is_what_the_package_requires(name, times):
    assert re.findall(r"Python 3\.\d+(?:, 3\.\d+)* or 3\.\d+", text(name)) == [IN_WORDS] * times


def test_make_takes_the_interpreters_that_the_package_requires():
    bounds = f"(3, {MINORS[0]}) <= sys.version_info[:2] < (3, {MINORS[-1] + 1})"
    assert re.findall(r"\(3, \d+\) <= [^)]*\)", text("Makefile")) == [bounds]


def test_the_doctor_takes_the_interpreters_that_the_package_requires():
    assert [minor for minor in range(100) if check_python((3, minor)).ok] == MINORS
    assert check_python((3, 0)).detail.endswith(f"{', '.join(VERSIONS[:-1])} and {VERSIONS[-1]} work")


def test_the_lock_is_of_the_interpreters_that_the_package_requires():
    assert SpecifierSet(tomllib.loads(text("uv.lock"))["requires-python"]) == SpecifierSet(REQUIRED)


def test_code_is_written_for_the_oldest_interpreter():
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{MINORS[0]}"


def test_continuous_integration_runs_on_every_interpreter():
    (job,) = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == VERSIONS


def test_continuous_integration_looks_for_every_interpreter_that_may_be_newer_than_its_own():
    (named,) = re.findall(r"for version in ([\d. ]+);", text(".ci/run"))
    assert named.split() == VERSIONS[:0:-1]
