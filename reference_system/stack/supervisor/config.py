"""supervisord's configuration, rendered from `infra/local/supervisord.conf` into the state directory.

In: settings and the services. Out: one file of mode 0600 that holds absolute paths and a fresh random password.
Invariant: one `[program:…]` section for each service, none else.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from configparser import RawConfigParser
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.stack.services import services

if TYPE_CHECKING:
    from reference_system.settings import Settings

CONFIG_TEMPLATE = PROJECT_ROOT / "infra" / "local" / "supervisord.conf"
_PROGRAM = "; From here on:"


def config_path(settings: Settings) -> Path:
    """Where the rendered configuration lies."""
    return StatePaths(settings.state_dir).supervisor / "supervisord.conf"


def write_config(settings: Settings) -> Path:
    """Render the template with a new password; replaces what is there."""
    path = config_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    StatePaths(settings.state_dir).logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(render_config(settings, password=secrets.token_urlsafe(32)))
    draft.replace(path)
    return path


def read_password(settings: Settings) -> str | None:
    """The password of the last start, or `None` if there was none."""
    parser = RawConfigParser(inline_comment_prefixes=None)
    if not parser.read(config_path(settings), encoding="utf-8"):
        return None
    return parser.get("inet_http_server", "password", fallback=None)


def render_config(settings: Settings, *, password: str) -> str:
    """The configuration as text."""
    daemon, _, program = CONFIG_TEMPLATE.read_text(encoding="utf-8").partition(_PROGRAM)
    paths = StatePaths(settings.state_dir)
    shared = {
        "home": str(paths.supervisor),
        "logs": str(paths.logs),
        "port": str(settings.port("supervisor")),
        "password": password,
        "python": shlex.quote(sys.executable),
        "project": str(PROJECT_ROOT),
    }
    sections = (
        Template(_PROGRAM + program).substitute(shared, name=service.name, stop_seconds=str(service.stop_seconds))
        for service in services(settings)
    )
    return Template(daemon).substitute(shared) + "\n".join(sections)
