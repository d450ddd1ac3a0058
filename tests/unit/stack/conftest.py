"""Ports of their own for tests that listen: the broker of the same test run may hold the shared block."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_broker import free_port_offset, small_settings

from reference_system.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A small world on ports that are free now."""
    return small_settings(tmp_path / "state", free_port_offset())
