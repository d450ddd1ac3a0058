"""`workbook openapi`: the document of the real-time API, generated from its records.

In: the records' declarations. Out: `docs/openapi.json`.
Invariant: `--check` writes nothing and fails unless the file is the generated one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reference_system.errors import StateError
from reference_system.paths import PROJECT_ROOT

app = typer.Typer()
# The document is part of the repository, not of the installed package.
DOCUMENT = PROJECT_ROOT / "docs" / "openapi.json"


@app.command("openapi")
def openapi(
    *,
    check: Annotated[bool, typer.Option("--check", help="Compare with the committed file; write nothing.")] = False,
    path: Annotated[Path, typer.Option(help="Where the file is.", show_default="docs/openapi.json")] = DOCUMENT,
) -> None:
    """Write the API's OpenAPI document (generated from its records)."""
    from reference_system.serving.http.openapi import document

    if not check:
        path.write_bytes(document())
        typer.echo(f"written to {path}")
    elif not path.exists() or path.read_bytes() != document():
        raise StateError(f"{path} differs from the declarations", next_command="workbook openapi")
    else:
        typer.echo(f"{path} equals the declarations")
