"""A real broker, a small world and their ports: what fixtures and the harnesses of some tests share."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reference_system.settings import LOOPBACK, PORT_NAMES, Settings

NOON = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)


# Port blocks lie above the offsets that people use and below the ports that systems hand out themselves.
BLOCKS_START, BLOCK_SIZE, BLOCKS = 10_000, 16, 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A running broker: where it listens, what it was started with, its process and its log."""

    bootstrap: str
    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path


LaunchBroker = Callable[[Settings], AbstractContextManager[Broker]]


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
    from reference_system.stack.kafka_broker import broker_command, prepare_broker
    from reference_system.stack.kafka_topics import wait_for_broker

    prepare_broker(settings)
    command, environment = broker_command(settings)
    log = settings.state_dir / "kafka.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for_broker(settings.kafka_bootstrap, settings.ready_seconds)
        yield Broker(bootstrap=settings.kafka_bootstrap, settings=settings, process=process, log=log)
    except BaseException:
        print(log.read_text(errors="replace")[-4000:])  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        stop(process)


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
    """An offset whose ports are all free now; concurrent test runs begin their search at different blocks."""
    for step in range(BLOCKS):
        offset = BLOCKS_START + (os.getpid() + step) % BLOCKS * BLOCK_SIZE
        if all(is_free(Settings(_env_file=None, port_offset=offset).port(name)) for name in PORT_NAMES):
            return offset
    raise RuntimeError("no free block of ports on this machine")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
