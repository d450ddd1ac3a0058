"""A bundle that is not on this machine yet: fetched from the registry by a process of its own.

In: a use case and a version. Out: the bundle's folder, or `BundleRefused`.
Invariant: MLflow's client is never imported into the service (see `processes/fetch_bundle.py`).
"""

from __future__ import annotations

import subprocess
import sys

from reference_system.errors import BundleRefused

_FETCH_SECONDS = 60


def fetch(use_case: str, version: str) -> None:
    """Bring a bundle from the registry.

    Raises:
        BundleRefused: if it does not come.
    """
    command = [sys.executable, "-m", "reference_system.processes.fetch_bundle", use_case, version]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BundleRefused(f"{use_case} {version} did not come within {_FETCH_SECONDS} s") from error
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise BundleRefused(f"{use_case} {version} cannot be fetched: {reason}")
