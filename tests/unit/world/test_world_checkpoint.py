from __future__ import annotations

import msgspec
import numpy as np
import pytest

from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY, MICROS_PER_SECOND
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.world.checkpoint import CHECKPOINT, restore, save
from reference_system.world.columns import PageRequests, Pages, PaymentColumns
from reference_system.world.history import generate_block
from reference_system.world.simulation import HISTORY_SLICE, LIVE_SLICE, Happened, World, make_world

TICK = 360 * MICROS_PER_SECOND


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A world that is small and large enough to have a fraud every hour."""
    return settings.model_copy(update={"customers": 3_000, "viewers": 500})


@pytest.fixture
def lived(settings: Settings) -> World:
    """A world some days into its history."""
    world = make_world(settings)
    generate_block(world, world.generated + 2 * MICROS_PER_DAY)
    return world


def tick_on(world: World, start: int, ticks: int, length: int = TICK) -> list[Happened]:
    return [
        world.advance(start + (number + 1) * length, LIVE_SLICE, world.viewing.popular_pages)
        for number in range(ticks)
    ]


def times_of(parts: list[Happened], kind: str) -> list[int]:
    return [time for part in parts for time in getattr(part, kind).times.tolist()]


def test_columns_survive_packing():
    payments = PaymentColumns(
        times=np.array([3, 5]),
        customers=np.array([1, 2]),
        terminals=np.array([7, 8]),
        amounts=np.array([1.25, 3.5]),
        frauds=np.array([True, False]),
    )
    again = PaymentColumns.unpack(payments.pack())
    for name, values in payments.arrays().items():
        assert again.arrays()[name].dtype == values.dtype
        assert again.arrays()[name].tolist() == values.tolist()


def test_no_rows_have_the_shape_of_rows():
    assert Pages.empty().videos.shape == (0, 10)
    assert Pages.empty().impressions.dtype == np.dtype("U64")
    assert len(PageRequests.joined([])) == 0


def test_a_restart_goes_on_as_if_nothing_had_happened(settings: Settings, lived: World):
    folder = StatePaths(settings.state_dir).world
    start = lived.generated
    tick_on(lived, start, 7)
    save(folder, settings, lived, start + 7 * TICK)
    again, released = restore(folder, settings)
    assert released == start + 7 * TICK
    expected = tick_on(lived, released, 300)
    found = tick_on(again, released, 300)
    for kind in ("payments", "chargebacks", "reversals", "publications", "pages", "watches"):
        assert times_of(found, kind) == times_of(expected, kind), kind
    assert times_of(found, "chargebacks")


def test_a_checkpoint_of_before_there_were_reversals_goes_on_without_them(settings: Settings, lived: World):
    folder = StatePaths(settings.state_dir).world
    save(folder, settings, lived, lived.generated)
    older = msgspec.msgpack.decode((folder / CHECKPOINT).read_bytes())
    del older["pending"]["reversals"], older["pending"]["chargebacks"]["reports"]
    (folder / CHECKPOINT).write_bytes(msgspec.msgpack.encode(older))
    again, _ = restore(folder, settings)
    assert again.pending.chargebacks.times.tolist() == lived.pending.chargebacks.times.tolist()
    assert not again.pending.chargebacks.reports.any()
    assert len(again.pending.reversals) == 0


def test_pending_chargebacks_of_history_come_true_after_a_restart(settings: Settings, lived: World):
    folder = StatePaths(settings.state_dir).world
    waiting = lived.pending.chargebacks.times.tolist()
    save(folder, settings, lived, lived.generated)
    again, released = restore(folder, settings)
    happened = [again.advance(released + 7 * MICROS_PER_DAY, HISTORY_SLICE, again.viewing.popular_pages)]
    assert len(waiting) > 20
    assert set(waiting) <= set(times_of(happened, "chargebacks"))


def test_live_slices_continue_history_without_a_gap_or_a_collision(settings: Settings):
    world = make_world(settings)
    # A Monday and a Tuesday, which are much alike.
    before = generate_block(world, world.generated + MICROS_PER_DAY)
    boundary = world.generated
    after = tick_on(world, boundary, 240)
    assert before.payments.times.max() < boundary <= min(times_of(after, "payments"))
    live = len(times_of(after, "payments"))
    assert live == pytest.approx(len(before.payments), rel=0.1)
    impressions = {impression for part in after for impression in part.pages.impressions.tolist()}
    assert impressions.isdisjoint(before.pages.impressions.tolist())
    assert len(times_of(after, "pages")) == pytest.approx(len(before.pages), rel=0.35)


def test_what_happens_does_not_depend_on_the_length_of_a_tick(settings: Settings, lived: World):
    folder = StatePaths(settings.state_dir).world
    save(folder, settings, lived, lived.generated)
    again, start = restore(folder, settings)
    short = tick_on(lived, start, 240, TICK)
    long = tick_on(again, start, 60, 4 * TICK)
    assert times_of(short, "payments") == times_of(long, "payments")
    assert times_of(short, "chargebacks") == times_of(long, "chargebacks")


def test_events_of_a_tick_are_ordered_and_lie_within_it(lived: World):
    start = lived.generated
    for number, part in enumerate(tick_on(lived, start, 200)):
        for kind in ("payments", "chargebacks", "reversals", "publications", "pages", "watches"):
            times = getattr(part, kind).times
            assert (np.diff(times) >= 0).all()
            assert (times >= start + number * TICK).all()
            assert (times < start + (number + 1) * TICK).all()


def test_without_a_history_there_is_nothing_to_go_on_from(settings: Settings):
    with pytest.raises(StateError, match="no history") as raised:
        restore(StatePaths(settings.state_dir).world, settings)
    assert raised.value.next_command == "make up"


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x81\xa1a\x01", b"not msgpack"])
def test_a_damaged_checkpoint_is_named(settings: Settings, data: bytes):
    folder = StatePaths(settings.state_dir).world
    folder.mkdir(parents=True)
    (folder / CHECKPOINT).write_bytes(data)
    with pytest.raises(StateError, match=CHECKPOINT):
        restore(folder, settings)


def test_a_checkpoint_of_another_world_is_refused(settings: Settings, lived: World):
    folder = StatePaths(settings.state_dir).world
    save(folder, settings, lived, lived.generated)
    with pytest.raises(StateError, match="terminals is 201, was 200"):
        restore(folder, settings.model_copy(update={"terminals": 201}))
