"""The shape of the code: how large its parts are, what is defined twice, where a use case is named.

In: this checkout, or commits of it. Out: one row a figure, one column a commit; with `--json` the same for programs.
Nothing of the project is imported or run.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "reference_system"
NAMES = ("fraud", "recommendation")
# Every verb has one, and every process.
EVERYWHERE = {"app", "main"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def figures(root: Path) -> dict[str, float | str]:
    """Every figure of the tree below `root`, by what it says."""
    sources = trees(root / PACKAGE)
    tests = trees(root / "tests") | trees(root / "load_tests")
    functions = [node for tree in sources.values() for node in ast.walk(tree) if isinstance(node, Function)]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (*sources, *tests)}
    source_lines = sum(lines[path] for path in sources)
    folder, most = Counter(str(path.parent.relative_to(root)) for path in sources).most_common(1)[0]
    twice = defined_twice(sources)
    outside = {path: tree for path, tree in sources.items() if not carries_a_name(path.relative_to(root))}
    return {
        "files": len(sources),
        "lines": source_lines,
        "median lines of a module": median(lines[path] for path in sources),
        "median lines of a function": median((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions),
        "typed functions, source": share_typed(sources),
        "typed functions, tests": share_typed(tests),
        "test lines a source line": round(sum(lines[path] for path in tests) / source_lines, 2),
        "public names defined in several modules": len(twice),
        "files in the largest folder": f"{most} ({folder})",
        "circles of imports": len(circles(imports_of(root, sources))),
        "modules that name a use case, outside files that carry its name": sum(map(mentions, outside.values())),
        "branches on a use case's name, outside the same": sum(map(branches, outside.values())),
    }


def trees(folder: Path) -> dict[Path, ast.Module]:
    """The Python files below a folder, parsed."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}


def carries_a_name(path: Path) -> bool:
    """Whether a file is about one use case, or declares all of them."""
    return path.parts[1] in ("use_cases", "use_case.py") or any(name in str(path) for name in NAMES)


def share_typed(sources: dict[Path, ast.Module]) -> float:
    """The share of functions whose arguments and result are all annotated."""
    found = [node for tree in sources.values() for node in ast.walk(tree) if isinstance(node, Function)]
    return round(sum(map(is_typed, found)) / len(found), 3) if found else 1.0


def is_typed(node: Function) -> bool:
    """Whether every argument but `self` and `cls`, and the result, has an annotation."""
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return node.returns is not None and all(each.annotation or each.arg in ("self", "cls") for each in arguments)


def defined_twice(sources: dict[Path, ast.Module]) -> list[str]:
    """Public top-level names of more than one module; a verb's function is named like what it calls."""
    places: dict[str, set[Path]] = defaultdict(set)
    for path, tree in sources.items():
        for node in tree.body:
            for name in defined(node):
                if not name.startswith("_") and name not in EVERYWHERE:
                    places[name].add(path)
    return sorted(name for name, found in places.items() if len(found) > 1)


def defined(node: ast.stmt) -> Iterator[str]:
    """The names that a statement defines; none for a decorated function, which is a verb or a flow."""
    match node:
        case ast.FunctionDef(decorator_list=[]) | ast.AsyncFunctionDef(decorator_list=[]) | ast.ClassDef():
            yield node.name
        case ast.Assign():
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def imports_of(root: Path, sources: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Who imports whom among the package's modules, also for type checking alone."""
    name_of = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in sources}
    modules = set(name_of.values())
    found: dict[str, set[str]] = {name: set() for name in modules}
    for path, tree in sources.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                wanted = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
                found[name_of[path]] |= wanted & modules
    return found


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach one another."""
    reach = {name: closure(arrows, name) for name in arrows}
    in_one = [name for name in arrows if name in reach[name]]
    return [set(group) for group in {frozenset(one for one in reach[name] if name in reach[one]) for name in in_one}]


def closure(arrows: dict[str, set[str]], start: str) -> set[str]:
    """Every module that `start` imports, directly or not."""
    seen, waiting = set[str](), list(arrows[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += arrows[name]
    return seen


def mentions(tree: ast.Module) -> bool:
    """Whether code names a use case: in an identifier, an import or a text that is no docstring."""
    words = re.compile("|".join(NAMES), re.IGNORECASE)
    return any(words.search(text) for node in ast.walk(tree) for text in texts_of(node))


def texts_of(node: ast.AST) -> Iterator[str]:
    """What a node says by itself."""
    match node:
        case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text) | ast.ClassDef(name=text):
            yield text
        case ast.FunctionDef(name=text) | ast.alias(name=text) | ast.ImportFrom(module=str(text)):
            yield text
        case ast.Constant(value=str(text)) if text in NAMES:
            yield text


def branches(tree: ast.Module) -> int:
    """Comparisons with a use case's name, and tables that are keyed by it."""
    found = 0
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                found += any(is_name(side) for side in (node.left, *node.comparators))
            case ast.Dict():
                found += any(key is not None and is_name(key) for key in node.keys)
            case ast.MatchValue(value=value):
                found += is_name(value)
    return found


def is_name(node: ast.expr) -> bool:
    """Whether an expression is a use case's name."""
    return isinstance(node, ast.Constant) and node.value in NAMES


def at_commit(commit: str) -> dict[str, float | str]:
    """The figures of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = ("git", "-C", str(ROOT), "archive", commit)
        packed = subprocess.run(archive, check=True, capture_output=True).stdout
        unpack = ("tar", "--extract", "--directory", folder)
        subprocess.run(unpack, check=True, input=packed)
        return figures(Path(folder))


def main() -> None:
    """Print the figures of the checkout, or of commits side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--commit", action="append", help="a commit instead of the checkout; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    columns = {name: at_commit(name) for name in given.commit or ()} or {"checkout": figures(ROOT)}
    if given.json:
        sys.stdout.write(json.dumps(columns, indent=1) + "\n")
        return
    rows = next(iter(columns.values()))
    sys.stdout.write(f"{'':<64}" + "".join(f"{name[:24]:>26}" for name in columns) + "\n")
    for row in rows:
        sys.stdout.write(f"{row:<64}" + "".join(f"{values[row]!s:>26}" for values in columns.values()) + "\n")


if __name__ == "__main__":
    main()
