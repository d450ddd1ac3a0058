"""Flows take their steps in one way, be it with Prefect or without."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from reference_system import flows

FOLDER = Path(flows.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_no_flow_asks_by_itself_whether_prefect_watches(path):
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert path.stem == "prefect_steps" or not names & {"fn", "is_watched", "FlowRunContext"}
