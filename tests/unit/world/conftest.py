"""Four weeks of the default world, generated once for the tests that look at its distributions."""

from __future__ import annotations

import pytest
from world_weeks import DAYS, Weeks

from reference_system.settings import Settings
from reference_system.windows import MICROS_PER_DAY
from reference_system.world.history import generate_block
from reference_system.world.simulation import make_world


@pytest.fixture(scope="session")
def default_settings() -> Settings:
    return Settings(_env_file=None)


@pytest.fixture(scope="session")
def weeks(default_settings: Settings) -> Weeks:
    world = make_world(default_settings)
    start = world.generated
    happened = generate_block(world, start + DAYS * MICROS_PER_DAY)
    return Weeks(start=start, world=world, happened=happened)
