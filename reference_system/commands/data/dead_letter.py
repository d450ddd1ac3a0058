"""`workbook dead-letter`: what ingestion refused, why, and how to send it again.

In: ids as `list` shows them (`topic/partition/offset` of the refused record). Out: tables for people, JSON for
programs; with `show --raw` the exact bytes.
Invariant: nothing is ever removed; what was sent again is listed as such, and a good event is counted exactly once.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter, Origin, Replay
    from reference_system.settings import Settings

app = typer.Typer(help="Records that are no events: list, look at, send again.", no_args_is_help=True)

_DEFAULT_LIMIT = 50
# What `show` prints of a long value; `--raw` has it all.
_SHOWN_BYTES = 2_000
# Letters that are sent and acknowledged together.
_CHUNK = 200

TopicOption = Annotated[str | None, typer.Option("--topic", help="Only this topic's (`transactions`, …).")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only with this error class, or with this text in the error.")
]


class ListedLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter as `list --json` prints it; `attempt` is 1 unless it was replayed before and refused again."""

    id: str
    error_class: str
    error: str
    bytes: int | None  # null for a tombstone
    attempt: int
    refused_at: str  # the machine's clock, UTC
    replayed_as: str | None  # where the record stands that was sent again


class ListedLetters(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `list --json`: the newest letters, and how many there are."""

    total: int
    letters: list[ListedLetter]


class ReplayedLetters(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `replay --json`: where each letter stands now, by its id."""

    replayed: dict[str, str]


@app.command("list")
def list_letters(
    *,
    topic: TopicOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")] = _DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """Show refused records: id, reason, size, attempt, and whether they were sent again."""
    from reference_system.settings import load_settings

    letters = _survey(load_settings(), topic, reason)
    answer = ListedLetters(total=len(letters), letters=letters[-limit:])
    if as_json:
        typer.echo(msgspec.json.encode(answer))
    else:
        _print(answer)


@app.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: transactions/0/17.")],
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write the value's exact bytes to stdout, nothing else.")] = False,
) -> None:
    """Show one refused record: its reason, and its bytes with everything unprintable escaped."""
    from reference_system.ingestion.dead_letters.kafka_reader import origin_named
    from reference_system.settings import load_settings

    (letter,) = _letters(load_settings(), [origin_named(letter_id)])
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    for name, text in _facts(letter).items():
        typer.echo(f"{name:<12} {text}")


@app.command("replay")
def replay(  # noqa: PLR0913 - one option for each way to choose
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `list` shows them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every letter that was not sent again yet.")] = False,
    topic: TopicOption = None,
    reason: ReasonOption = None,
    value: Annotated[
        Path | None,
        typer.Option("--value", exists=True, dir_okay=False, help="Send this file's bytes instead, for one ID."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send refused records again, under their own key.

    What is an event by now is counted exactly once; what is not comes back with its attempt raised. An event that
    comes more than a day behind its partition is late: kept as a fact, in no window.
    """
    from reference_system.settings import load_settings

    if bool(ids) == every or (value is not None and len(ids or ()) != 1):
        raise typer.BadParameter("name letters, or --all of them; --value goes with exactly one")
    if not every and (topic or reason):
        raise typer.BadParameter("--topic and --reason choose among --all")
    settings = load_settings()
    chosen = _untouched(settings, topic, reason) if every else _named(settings, ids or [])
    if not chosen:
        typer.echo(msgspec.json.encode(ReplayedLetters(replayed={})) if as_json else "there is nothing to send again")
        return
    if not yes:
        typer.confirm(f"send {len(chosen)} refused record(s) again?", abort=True, err=True)
    replayed = _send(settings, chosen, None if value is None else value.read_bytes())
    if as_json:
        typer.echo(msgspec.json.encode(ReplayedLetters(replayed=replayed)))
        return
    for before, now in replayed.items():
        typer.echo(f"{before} was sent again as {now}")


def _survey(settings: Settings, topic: str | None, reason: str | None) -> list[ListedLetter]:
    """Every letter that fits, oldest first, without its bytes: those may be many."""
    from reference_system.ingestion.dead_letters.kafka_reader import Replay

    letters: list[ListedLetter] = []
    replays: dict[str, str] = {}
    for found in _shelf(settings, topic):
        if isinstance(found, Replay):
            replays[str(found.origin)] = str(found.replayed_as)
        elif reason is None or reason == found.error_class or reason.lower() in found.error.lower():
            letters.append(_listed(found))
    marked = [msgspec.structs.replace(each, replayed_as=replays.get(each.id)) for each in letters]
    return sorted(marked, key=lambda each: each.refused_at)


def _shelf(settings: Settings, topic: str | None) -> Iterator[DeadLetter | Replay]:
    from reference_system.errors import StateError
    from reference_system.ingestion.dead_letters.kafka_reader import read_shelf
    from reference_system.ingestion.kafka_log import TopicLog
    from reference_system.use_cases import TOPICS

    topics = [each for each in TOPICS if topic in (None, each.name)]
    if not topics:
        raise StateError(f"there is no topic {topic}; topics are {', '.join(each.name for each in TOPICS)}")
    with TopicLog(settings.kafka_bootstrap) as log:
        for each in topics:
            yield from read_shelf(log, each)


def _listed(letter: DeadLetter) -> ListedLetter:
    from datetime import UTC, datetime

    return ListedLetter(
        id=str(letter.origin),
        error_class=letter.error_class,
        error=letter.error,
        bytes=None if letter.value is None else len(letter.value),
        attempt=letter.attempt,
        refused_at=datetime.fromtimestamp(letter.sent_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        replayed_as=None,
    )


def _named(settings: Settings, ids: Sequence[str]) -> list[Origin]:
    """The letters with these ids.

    Raises:
        StateError: if one does not exist, or was sent again: what came back then has an id of its own.
    """
    from reference_system.errors import StateError
    from reference_system.ingestion.dead_letters.kafka_reader import origin_named

    origins = list(dict.fromkeys(map(origin_named, ids)))
    known = {letter.id: letter for letter in _survey(settings, None, None)}
    for origin in origins:
        letter = known.get(str(origin))
        if letter is None:
            raise StateError(f"there is no dead letter {origin}", next_command="workbook dead-letter list")
        if letter.replayed_as is not None:
            raise StateError(
                f"{origin} was sent again as {letter.replayed_as}; if it was refused again, that is its id now",
                next_command="workbook dead-letter list",
            )
    return origins


def _untouched(settings: Settings, topic: str | None, reason: str | None) -> list[Origin]:
    from reference_system.ingestion.dead_letters.kafka_reader import origin_named

    return [origin_named(each.id) for each in _survey(settings, topic, reason) if each.replayed_as is None]


def _letters(settings: Settings, origins: Collection[Origin]) -> Iterator[DeadLetter]:
    """The letters with their bytes, one at a time."""
    from reference_system.errors import StateError
    from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter

    wanted = set(origins)
    for name in sorted({origin.topic for origin in wanted}):
        for found in _shelf(settings, name):
            if isinstance(found, DeadLetter) and found.origin in wanted:
                wanted.remove(found.origin)
                yield found
    if wanted:
        raise StateError(f"there is no dead letter {min(wanted)}", next_command="workbook dead-letter list")


def _send(settings: Settings, origins: Sequence[Origin], value: bytes | None) -> dict[str, str]:
    from reference_system.ingestion.dead_letters.kafka_replay import DeadLetterReplay, corrected

    replayed: dict[str, str] = {}
    with DeadLetterReplay(settings.kafka_bootstrap) as again:
        letters = _letters(settings, origins)
        while chunk := list(islice(letters, _CHUNK)):
            sent = again.send(chunk if value is None else [corrected(letter, value) for letter in chunk])
            replayed |= {str(letter.origin): str(at) for letter, at in zip(chunk, sent, strict=True)}
    return replayed


def _print(answer: ListedLetters) -> None:
    from rich.table import Column, Table

    from reference_system.commands.terminal.tables import print_table

    # On a narrow terminal everything is still there: the id in one piece, to be copied, the rest folded.
    table = Table(
        Column("id", no_wrap=True),
        *(Column(heading, overflow="fold") for heading in ("error class", "error")),
        "bytes",
        "attempt",
        Column("sent again as", overflow="fold"),
    )
    for each in answer.letters:
        size = "tombstone" if each.bytes is None else f"{each.bytes:,}"
        table.add_row(each.id, each.error_class, escaped(each.error), size, str(each.attempt), each.replayed_as or "")
    if answer.letters:
        print_table(table)
    typer.echo(f"{len(answer.letters)} of {answer.total} dead letters")


def _facts(letter: DeadLetter) -> dict[str, str]:
    """What `show` prints, line by line; nothing in it can move the cursor or change a colour."""
    listed = _listed(letter)
    return {
        "id": listed.id,
        "error class": escaped(letter.error_class),
        "error": escaped(letter.error),
        "schema": escaped(f"{letter.origin.topic} v{letter.schema_version}"),
        "attempt": str(letter.attempt),
        "refused at": f"{listed.refused_at} (machine's clock)",
        "key": _shown(letter.key),
        "bytes": "none: a tombstone" if letter.value is None else f"{len(letter.value):,}",
        "value": _shown(letter.value),
    }


def _shown(data: bytes | None) -> str:
    """Text with everything unprintable escaped, or hex where it is no text; cut if it is long."""
    if data is None:
        return ""
    more = f" … {len(data):,} bytes in all (--raw writes them)" if len(data) > _SHOWN_BYTES else ""
    try:
        return escaped(data.decode()[:_SHOWN_BYTES]) + more
    except UnicodeDecodeError:
        return f"hex {data[:_SHOWN_BYTES].hex(' ', -4)}{more}"


def escaped(text: str) -> str:
    """The text with control characters, invisible ones and lone surrogates as escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
