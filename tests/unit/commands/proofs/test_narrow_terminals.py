"""What verbs print on a terminal of 80 and of 120 columns: every heading whole, nothing cut."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from reference_system.commands.proofs.verify import show_ledger
from reference_system.paths import PROJECT_ROOT
from reference_system.proofs.ledger.report import LedgerReport, StateLedger, TopicLedger

COMMANDS = Path(PROJECT_ROOT, "reference_system", "commands")
# These two print single lines as work goes on, no tables.
LINES_ONLY = {COMMANDS / "terminal" / "tables.py", COMMANDS / "terminal" / "progress.py"}
HEADINGS = ("topic", "acknowledged", "counted", "late", "dead-lettered", "duplicates", "lost", "double", "waiting")


def a_ledger(count):
    names = ("acknowledged", "counted", "late", "dead_lettered", "duplicates", "missing", "extra", "double", "waiting")
    rest = dict.fromkeys(set(TopicLedger.__struct_fields__) - {"topic", *names}, 0)
    topics = [TopicLedger(topic=name, **dict.fromkeys(names, count), **rest) for name in ("shadow-predictions", "x")]
    states = StateLedger(**dict.fromkeys(StateLedger.__struct_fields__, count))
    return LedgerReport(topics=topics, states=states, digest="ab" * 32, seconds=1.0, problems=[])


@pytest.mark.parametrize("count", [0, 1_300_000, 98_765_432_100])
@pytest.mark.parametrize("width", [80, 120])
def test_the_ledger_is_whole_however_much_was_counted(width, count, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    show_ledger(a_ledger(count))
    printed = capsys.readouterr().out

    assert "…" not in printed
    assert all(heading in printed for heading in HEADINGS)
    assert f"{count:,}" in printed
    assert max(map(len, printed.split("states:")[0].splitlines())) <= width


@pytest.mark.parametrize("path", sorted(COMMANDS.rglob("*.py")), ids=lambda path: str(path.relative_to(COMMANDS)))
def test_only_one_file_opens_a_console_so_no_verb_can_cut_a_table(path):
    if path in LINES_ONLY:
        return
    names = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "Console" not in names, f"{path.name} opens a console of its own: use terminal.tables.print_table"
