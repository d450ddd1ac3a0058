"""The use cases by name. A name is a package `use_cases/<name>/` and a file or folder `<name>` in each stage.

To add one, add its files and its name here (docs/your-own-use-case.md).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from reference_system.errors import WorkbookError

USE_CASES: tuple[str, ...] = ("fraud", "recommendation")

if TYPE_CHECKING:
    UseCase = str
else:
    # Records that carry the name refuse another one when they are decoded, and their JSON Schema lists the names.
    UseCase = Literal[USE_CASES]


def require_use_case(name: str) -> UseCase:
    """The name, if there is such a use case.

    Raises:
        WorkbookError: if there is none; the message names those that exist.
    """
    if name not in USE_CASES:
        raise WorkbookError(f"there is no use case {name!r} (there are {', '.join(USE_CASES)})")
    return name


def case_module(package: str, use_case: UseCase) -> ModuleType:
    """The module of a package that is named after the use case, imported when it is needed.

    Raises:
        WorkbookError: if there is no such use case.
    """
    return import_module(f"{package}.{require_use_case(use_case)}")
