"""A broker that a proof or a test starts, kills, pauses and stops.

In: settings. Out: a real broker on free ports.
Invariant: the caller that starts a broker also stops it, in every case.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Self

from reference_system.errors import SetupError, StateError
from reference_system.settings import PORT_NAMES, Settings
from reference_system.stack.environment import SERVICE_MARK, STATE_MARK
from reference_system.stack.kafka.broker import broker_command, prepare_broker
from reference_system.stack.kafka.topics import wait_for_broker
from reference_system.stack.log_files import tail
from reference_system.stack.ports import is_port_free

# Port blocks lie above the offsets that people use and below the ephemeral ports of operating systems.
BLOCKS_START, BLOCK_SIZE, BLOCKS = 10_000, 16, 600
_STOP_SECONDS = 20.0
_LAST_LINES = 20


class BrokerProcess:
    """A real broker on the ports and in the state directory of its settings; a context manager."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; nothing runs yet."""
        self.settings = settings
        self.log = settings.state_dir / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Prepare the storage and start."""
        prepare_broker(self.settings)
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop."""
        self.stop()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return self.settings.kafka_bootstrap

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        if self._process is None:
            raise StateError(f"the broker at {self.bootstrap} was never started")
        return self._process

    def start(self) -> None:
        """Start, and return when it answers.

        Raises:
            ServiceError: if it does not answer within `settings.ready_seconds`.
        """
        command, environment = broker_command(self.settings)
        marks = {SERVICE_MARK: "kafka", STATE_MARK: str(self.settings.state_dir)}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=environment | marks,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this process only: the broker stops after its clients.
                start_new_session=True,
            )
        try:
            wait_for_broker(self.bootstrap, self.settings.ready_seconds)
        except BaseException as error:
            self.stop()
            error.add_note("\n".join(tail(self.log, _LAST_LINES)))
            raise

    def kill(self) -> None:
        """SIGKILL: data that was not written to files is lost, written data is kept."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open without answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """SIGKILL, then start on the same storage."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Terminate it; kill it if it does not stop in time."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port_offset(settings: Settings, *, first_block: int | None = None) -> int:
    """Find a port offset whose ports are all free.

    Args:
        settings: the ports to which it is added.
        first_block: where the search begins. By default concurrent processes begin far apart, because a process may
            not have bound the ports that it found free.

    Raises:
        SetupError: if there is none.
    """
    bases = [settings.port(name) - settings.port_offset for name in PORT_NAMES]
    first = os.getpid() * 37 if first_block is None else first_block
    for step in range(BLOCKS):
        offset = BLOCKS_START + (first + step) % BLOCKS * BLOCK_SIZE
        if all(is_port_free(base + offset) for base in bases):
            return offset
    raise SetupError(f"no block of {len(bases)} free ports on this machine")
