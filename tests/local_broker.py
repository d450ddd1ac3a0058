"""A real broker, a small world and their ports: what fixtures and the harnesses of some tests share."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from reference_system.proofs import broker_process
from reference_system.proofs.broker_process import BLOCK_SIZE as BLOCK_SIZE  # noqa: PLC0414 - tests share a block
from reference_system.proofs.broker_process import BrokerProcess
from reference_system.settings import Settings

Broker = BrokerProcess
LaunchBroker = Callable[[Settings], AbstractContextManager[Broker]]

_BLOCKS_OF_A_WORKER = 150
_blocks = count()

NOON = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)


def small_settings(state_dir: Path, port_offset: int) -> Settings:
    """A small world; no `.env` file of the reader changes it."""
    return Settings(
        _env_file=None,
        state_dir=state_dir,
        port_offset=port_offset,
        customers=100,
        terminals=200,
        viewers=100,
        videos=150,
        history_days=45,
    )


@contextlib.contextmanager
def running_broker(settings: Settings) -> Iterator[Broker]:
    """A real broker on `settings`, ready for clients; stopped at the end, however the test ends."""
    broker = Broker(settings)
    try:
        with broker:
            yield broker
    except BaseException:
        if broker.log.exists():
            print(broker.log.read_text(errors="replace")[-4000:])  # noqa: T201 - pytest shows it with the failure
        raise


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, then insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def free_port_offset() -> int:
    """An offset whose ports are all free now; no test of this run was given the same one before it.

    A worker goes through blocks of its own: what one test found free it may not hold yet when the next one looks.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first_block = os.getppid() * 37 + worker * _BLOCKS_OF_A_WORKER + next(_blocks) % _BLOCKS_OF_A_WORKER
    return broker_process.free_port_offset(Settings(_env_file=None), first_block=first_block)
