"""`workbook kafka`: the broker's jars, for maintainers."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The Kafka broker's jars (for maintainers).", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `lock` a verb of its own: with one command, typer would fold it into the group."""


@app.command()
def lock(
    version: Annotated[str | None, typer.Option(help="Kafka version; the locked one if not given.")] = None,
) -> None:
    """Make `infra/kafka/jars.lock` anew: resolve, download and hash every jar."""
    from reference_system.stack.kafka.jars import JAR_LOCK, make_lock, read_lock, render_lock

    made = make_lock(version or read_lock().kafka)
    draft = JAR_LOCK.with_name(JAR_LOCK.name + ".draft")
    draft.write_text(render_lock(made), encoding="utf-8")
    draft.replace(JAR_LOCK)
    megabytes = sum(jar.size for jar in made.jar) / 1e6
    typer.echo(f"Kafka {made.kafka}: {len(made.jar)} jars, {megabytes:.1f} MB, locked in {JAR_LOCK}")
