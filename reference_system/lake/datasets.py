"""Datasets: what a reader brought, each under a name of its own, beside the live system.

In: a name. Out: the map of its folder (`StatePaths`), the same map that the live system has.
Invariant: the manifest names one version folder, and that folder is complete: an import writes the next version
beside it and then replaces the manifest, so a crash at any moment leaves the old dataset or the new one.

```
datasets/cards/dataset.json    the manifest
datasets/cards/v2/lake/…       the version that it names
datasets/cards/v2/order/…      where each event stood in its file
```

The version before stays until the next import: a reader that had begun goes on with it. Its files are the same ones
(hard links), so it costs next to nothing. Whoever writes holds the lock of `datasets/`.
"""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.replaced_files import drafts_of, read_record, replace_file
from reference_system.settings import Settings

LIVE = "live"
LIST_COMMAND = "workbook data list"
_MANIFEST = "dataset.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_VERSION = re.compile(r"v[0-9]+")


class ImportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was imported; the numbers are rows of it."""

    file: str
    sha256: str
    columns: dict[str, str]  # ours → the file's
    imported_at: datetime  # on the machine's clock
    rows: int
    imported: int
    duplicates: int
    held_before: int
    bad: int
    refunds: int = 0  # left out because the reader said so


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset says about itself. `events` counts by topic, `first` and `last` are event times."""

    use_case: str
    version: int
    label_delay: timedelta | None
    id_types: dict[str, str]  # our id columns → the Arrow type they had in the file
    events: dict[str, int]
    first: datetime
    last: datetime
    sources: tuple[ImportedFile, ...]


def datasets_folder(settings: Settings) -> Path:
    """Where all datasets lie."""
    return StatePaths(settings.state_dir).datasets


def dataset_folder(settings: Settings, name: str) -> Path:
    """Where one dataset lies, whether it exists or not.

    Raises:
        StateError: if no dataset may have this name.
    """
    if name == LIVE:
        raise StateError(f"{LIVE!r} is the running system, no imported dataset", next_command=LIST_COMMAND)
    if not _NAME.fullmatch(name):
        raise StateError(
            f"{name!r} is no name of a dataset: at most 32 of a-z, 0-9, _ and -, beginning with a letter or a digit",
            next_command=LIST_COMMAND,
        )
    return datasets_folder(settings) / name


def dataset_names(settings: Settings) -> list[str]:
    """The datasets that exist, sorted; what an import left unfinished is none."""
    return sorted(path.parent.name for path in datasets_folder(settings).glob(f"*/{_MANIFEST}"))


def find_manifest(settings: Settings, name: str) -> DatasetManifest | None:
    """A dataset's manifest, or `None` if there is no such dataset.

    Raises:
        StateError: if no dataset may have this name, or the manifest cannot be read.
    """
    path = dataset_folder(settings, name) / _MANIFEST
    return read_record(path, DatasetManifest, next_command=f"workbook data remove {name}")


def read_dataset_manifest(settings: Settings, name: str) -> DatasetManifest:
    """The manifest of a dataset that exists.

    Raises:
        StateError: if it does not; the message names those that do.
    """
    manifest = find_manifest(settings, name)
    if manifest is None:
        names = ", ".join([LIVE, *dataset_names(settings)])
        raise StateError(f"there is no dataset {name!r} (there are: {names})", next_command=LIST_COMMAND)
    return manifest


def dataset_paths(settings: Settings, name: str) -> StatePaths:
    """The map of a dataset; `live` is the running system.

    Raises:
        StateError: if there is no such dataset; the message names those that exist.
    """
    if name == LIVE:
        return StatePaths(settings.state_dir)
    return version_paths(settings, name, read_dataset_manifest(settings, name).version)


def dataset_for(
    settings: Settings, name: str, use_case: str, *, next_command: str = LIST_COMMAND
) -> tuple[StatePaths, DatasetManifest | None]:
    """The map and the manifest of a dataset that holds events of a use case; `live` holds all and has no manifest.

    `next_command` is what the error advises where it holds another use case; `{held}` stands for that one.

    Raises:
        StateError: if there is no such dataset, or it holds events of another use case.
    """
    if name == LIVE:
        return StatePaths(settings.state_dir), None
    manifest = read_dataset_manifest(settings, name)
    if manifest.use_case != use_case:
        raise StateError(
            f"the dataset {name!r} holds {manifest.use_case}, not {use_case}",
            next_command=next_command.replace("{held}", manifest.use_case),
        )
    return version_paths(settings, name, manifest.version), manifest


def version_paths(settings: Settings, name: str, version: int) -> StatePaths:
    """The map of one version of a dataset."""
    return StatePaths(dataset_folder(settings, name) / f"v{version}")


def order_folder(paths: StatePaths) -> Path:
    """Parquet with each event's id and its row in the files; the live system has none."""
    return paths.root / "order"


def begin_version(settings: Settings, name: str, before: int | None) -> StatePaths:
    """A folder for the version after `before`, with the same files in it; the caller adds to it and publishes."""
    datasets_folder(settings).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths = version_paths(settings, name, (before or 0) + 1)
    if before is None:
        paths.root.mkdir(parents=True)
    else:
        # Every file of a dataset is written once and replaced whole: a link to it never sees it change.
        shutil.copytree(version_paths(settings, name, before).root, paths.root, copy_function=_link)
    return paths


def publish_version(settings: Settings, name: str, manifest: DatasetManifest) -> None:
    """Make the manifest's version the one that readers find."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    replace_file(dataset_folder(settings, name) / _MANIFEST, content, durable=True)


def clear_leftovers(settings: Settings) -> None:
    """Remove what no manifest names: unfinished imports and versions before the current; the caller has the lock."""
    for folder in datasets_folder(settings).glob("*/"):
        if not _NAME.fullmatch(folder.name):
            continue
        manifest = find_manifest(settings, folder.name)
        for entry in list(folder.iterdir()):
            if _VERSION.fullmatch(entry.name) and (manifest is None or entry.name != f"v{manifest.version}"):
                shutil.rmtree(entry)
        for draft in drafts_of(folder / _MANIFEST):
            draft.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def remove_dataset(settings: Settings, name: str) -> float:
    """Remove a dataset or what an import left of it; returns the MB on disk. The caller has the lock.

    Raises:
        StateError: if there is none.
    """
    folder = dataset_folder(settings, name)
    if not folder.is_dir():
        read_dataset_manifest(settings, name)
    size = disk_megabytes(folder)
    # Without a manifest there is no dataset any more, whatever interrupts the rest.
    (folder / _MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)
    return size


def disk_megabytes(folder: Path) -> float:
    """The MB that a folder takes; a file with several names counts once."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum({entry.st_ino: entry.st_size for entry in found}.values()) / 1e6


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
    return target
