"""`python -m reference_system.processes.fetch_bundle USE_CASE VERSION`: bring a registered bundle to this machine.

In: a use case and a version. Out: its bundle in the state directory, or a message and a non-zero exit.

A process of its own, because MLflow's client takes seconds of CPU to import and more memory than the service that
needs one bundle from it now and then.
"""

from __future__ import annotations

import sys

from reference_system.errors import WorkbookError
from reference_system.paths import StatePaths
from reference_system.settings import load_settings


def main() -> None:
    """Fetch what the arguments name."""
    from reference_system.registry.mlflow_registry import fetch_bundle, use_mlflow

    use_case, version = sys.argv[1:]
    settings = load_settings()
    use_mlflow(settings.url("mlflow"))
    try:
        fetch_bundle(use_case, version, StatePaths(settings.state_dir).bundles)
    except WorkbookError as error:
        sys.exit(error.for_person())


if __name__ == "__main__":
    main()
