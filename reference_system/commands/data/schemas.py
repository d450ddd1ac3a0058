"""`workbook schemas`: the JSON Schema of every topic, generated from its record.

In: the records' declarations. Out: one file for each topic under `docs/schemas/`.
Invariant: `--check` writes nothing and fails unless the folder holds exactly the generated files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reference_system.errors import StateError
from reference_system.paths import PROJECT_ROOT

app = typer.Typer()
# The schemas are part of the repository, not of the installed package.
SCHEMAS = PROJECT_ROOT / "docs" / "schemas"


@app.command("schemas")
def schemas(
    *,
    check: Annotated[bool, typer.Option("--check", help="Compare with the committed files; write nothing.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the files are.", show_default="docs/schemas")] = SCHEMAS,
) -> None:
    """Write the events' JSON Schemas (generated from their declarations)."""
    wanted = schema_texts()
    if check:
        check_schemas(folder, wanted)
        typer.echo(f"{len(wanted)} schemas in {folder} equal the declarations")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    typer.echo(f"{len(wanted)} schemas written to {folder}")


def schema_texts() -> dict[str, str]:
    """The text of each schema file by its name."""
    import msgspec

    from reference_system.events import json_schema
    from reference_system.use_cases import TOPICS

    return {
        f"{topic.name}.v1.json": msgspec.json.format(msgspec.json.encode(json_schema(topic)), indent=2).decode() + "\n"
        for topic in TOPICS
    }


def check_schemas(folder: Path, wanted: dict[str, str]) -> None:
    """Do nothing if the folder holds exactly these files.

    Raises:
        StateError: naming the files that differ, are missing or are left over.
    """
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise StateError(
            f"{', '.join(wrong)} in {folder} differ from the declarations", next_command="workbook schemas"
        )
