"""`workbook run kafka`: the broker."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_system.settings import Settings


def main(settings: Settings) -> None:
    """Prepare the broker and become it: the process id stays, so signals meant for the broker reach Java."""
    from reference_system.stack.kafka.broker import broker_command, prepare_broker

    prepare_broker(settings)
    command, environment = broker_command(settings)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - replacing the process is the point; no shell
