"""The checkpoint: the state from which the world continues after a stop.

In: a world between two ticks. Out: one msgpack file, replaced atomically; the same world again.
Invariant: events that are pending at the checkpoint happen once after a restart; a world made with other settings is
refused, because indices would refer to other entities.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY
from reference_system.replaced_files import replace_file
from reference_system.settings import Settings
from reference_system.world.columns import Chargebacks, PageRequests, PaymentColumns, Publications, Watches
from reference_system.world.simulation import Pending, World, make_world

CHECKPOINT = "checkpoint.msgpack"


class WorldIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that identify a world."""

    seed: int
    history_start: str
    customers: int
    terminals: int
    viewers: int
    videos: int


class _Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    identity: WorldIdentity
    released: int
    generated: int
    pending: dict[str, dict[str, list[Any]]]


def identity_of(settings: Settings) -> WorldIdentity:
    """The identity of the world with these settings."""
    return WorldIdentity(
        seed=settings.seed,
        history_start=settings.history_start.isoformat(),
        customers=settings.customers,
        terminals=settings.terminals,
        viewers=settings.viewers,
        videos=settings.videos,
    )


def save(folder: Path, settings: Settings, world: World, released: int) -> None:
    """Write the checkpoint: everything before `released` (microseconds) has been published."""
    checkpoint = _Checkpoint(
        identity=identity_of(settings),
        released=released,
        generated=world.generated,
        pending={column.name: getattr(world.pending, column.name).pack() for column in fields(Pending)},
    )
    replace_file(folder / CHECKPOINT, msgspec.msgpack.encode(checkpoint))


def restore(folder: Path, settings: Settings) -> tuple[World, int]:
    """The world of the checkpoint and the time up to which its events have been published.

    Raises:
        StateError: if there is none, it is damaged, or it belongs to other settings.
    """
    path = folder / CHECKPOINT
    try:
        checkpoint = msgspec.msgpack.decode(path.read_bytes(), type=_Checkpoint)
        packed = checkpoint.pending
        # Older checkpoints have no second chargebacks and no reversals.
        packed["chargebacks"].setdefault("reports", [0] * len(packed["chargebacks"]["times"]))
        pending = Pending(
            payments=PaymentColumns.unpack(packed["payments"]),
            chargebacks=Chargebacks.unpack(packed["chargebacks"]),
            reversals=Chargebacks.unpack(packed.get("reversals", Chargebacks.empty().pack())),
            publications=Publications.unpack(packed["publications"]),
            requests=PageRequests.unpack(packed["requests"]),
            watches=Watches.unpack(packed["watches"]),
        )
    except FileNotFoundError as error:
        raise StateError(f"the world has no history: {path} does not exist", next_command="make up") from error
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError) as error:
        raise StateError(f"{path} cannot be read: {error}", next_command="make clean") from error
    refuse_other(checkpoint.identity, settings)
    world = make_world(settings)
    world.generated = checkpoint.generated
    world.pending = pending
    # The last generated slice may be later than the released events; its viewers and videos exist already.
    world.viewing.grow((checkpoint.generated - 1) // MICROS_PER_DAY)
    return world, checkpoint.released


def refuse_other(found: WorldIdentity, settings: Settings) -> None:
    """Refuse state that was made with other settings.

    Raises:
        StateError: naming the settings that differ.
    """
    wanted = identity_of(settings)
    differing = [
        f"{name} is {getattr(wanted, name)}, was {getattr(found, name)}"
        for name in WorldIdentity.__struct_fields__
        if getattr(wanted, name) != getattr(found, name)
    ]
    if differing:
        raise StateError(
            f"the state directory holds another world ({'; '.join(differing)})", next_command="make clean"
        )
