"""`make shape` measures what it says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import shape


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two modules that import one another, one of them twice about a use case; a test that is half typed."""
    files = {
        "reference_system/a.py": (
            "from reference_system import b\n\n\n"
            "def judge(case: str) -> int:\n    return 1 if case == 'fraud' else 2\n\n\n"
            "TABLE = {'fraud': 1, 'recommendation': 2}\n"
        ),
        "reference_system/b.py": (
            "from reference_system.a import judge as first\n\n\ndef judge(case):\n    return first(case)\n"
        ),
        "reference_system/fraud/c.py": "def score(case: str) -> bool:\n    return case == 'fraud'\n",
        "tests/test_a.py": "def one() -> None:\n    pass\n\n\ndef two(it):\n    pass\n",
        "load_tests/x.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_each_figure_is_what_the_tree_shows(tree: Path) -> None:
    found = shape.figures(tree)
    assert found["files"] == 3
    assert found["lines"] == 15
    assert found["typed functions, source"] == round(2 / 3, 3)
    assert found["typed functions, tests"] == 0.5
    assert found["public names defined in several modules"] == 1
    assert found["files in the largest folder"] == "2 (reference_system)"
    assert found["circles of imports"] == 1
    assert found["modules that name a use case, outside files that carry its name"] == 1
    assert found["branches on a use case's name, outside the same"] == 2


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("case == 'fraud'", 1),
        ("case != 'recommendation'", 1),
        ("case in ('fraud', 'ads')", 0),
        ("{'fraud': 1, 'recommendation': 2}", 1),
        ("{'ads': 1}", 0),
        ("match case:\n    case 'fraud':\n        pass", 1),
        ("topic == 'fraudulent'", 0),
    ],
)
def test_a_branch_on_a_name_is_a_comparison_or_a_table(text: str, count: int) -> None:
    assert shape.branches(ast.parse(text)) == count
