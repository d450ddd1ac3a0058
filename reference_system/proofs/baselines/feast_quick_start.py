"""Feast with the settings of its quick start, used by the naive versions.

In: a folder. Out: an open store whose registry and SQLite file are in it.
Invariant: no code or setting of this project is used.
"""

from __future__ import annotations

from pathlib import Path

from feast import FeatureStore, RepoConfig


def quick_start(folder: Path) -> FeatureStore:
    """Open Feast in the folder with its own SQLite store."""
    folder.mkdir(parents=True, exist_ok=True)
    return FeatureStore(
        config=RepoConfig(
            project="naive",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
