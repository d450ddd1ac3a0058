"""Datasets: one manifest names one whole version; nothing else is a dataset, and what is the reader's stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from local_broker import small_settings

from reference_system.errors import StateError
from reference_system.lake import datasets
from reference_system.lake.datasets import DatasetManifest
from reference_system.paths import StatePaths
from reference_system.stack.state_dir import refuse_foreign

MOMENT = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return small_settings(tmp_path / "state", 0)


def manifest(version):
    return DatasetManifest(
        use_case="fraud",
        version=version,
        label_delay=timedelta(days=7),
        id_types={},
        events={"transactions": version},
        first=MOMENT,
        last=MOMENT,
        sources=(),
    )


def put(settings, name="cards", *, version=1):
    """A version with one file in it, published."""
    paths = datasets.begin_version(settings, name, version - 1 or None)
    paths.lake.mkdir(exist_ok=True)
    (paths.lake / f"part-{version}").write_text("rows", encoding="utf-8")
    datasets.publish_version(settings, name, manifest(version))
    return paths


def test_the_live_system_is_a_dataset_to_read(settings):
    assert datasets.dataset_paths(settings, "live") == StatePaths(settings.state_dir)


def test_a_dataset_has_the_map_of_the_live_system_under_its_version(settings):
    put(settings)

    assert datasets.dataset_paths(settings, "cards").lake == settings.state_dir / "datasets/cards/v1/lake"
    assert datasets.read_dataset_manifest(settings, "cards") == manifest(1)


def test_a_dataset_that_does_not_exist_is_answered_with_those_that_do(settings):
    put(settings)
    put(settings, "movies")

    with pytest.raises(StateError, match=r"no dataset 'card' \(there are: live, cards, movies") as error:
        datasets.dataset_paths(settings, "card")
    assert error.value.next_command == "workbook data list"


@pytest.mark.parametrize("name", ["", "Cards", "../cards", "a/b", "-cards", "_x", "live", "x" * 33, "cards\n", "a b"])
def test_a_name_that_could_be_anything_else_is_refused(settings, name):
    with pytest.raises(StateError):
        datasets.dataset_folder(settings, name)


def test_the_next_version_has_the_files_of_the_one_before_without_a_copy(settings):
    first, second = put(settings), put(settings, version=2)

    assert sorted(path.name for path in second.lake.iterdir()) == ["part-1", "part-2"]
    assert (second.lake / "part-1").samefile(first.lake / "part-1")
    assert [path.name for path in first.lake.iterdir()] == ["part-1"]
    assert datasets.disk_megabytes(settings.state_dir / "datasets") < 0.001


def test_until_it_is_published_a_version_is_not_there(settings):
    put(settings)
    datasets.begin_version(settings, "cards", 1)
    datasets.begin_version(settings, "movies", None)

    assert datasets.dataset_names(settings) == ["cards"]
    assert datasets.dataset_paths(settings, "cards").root.name == "v1"


def test_leftovers_are_versions_that_no_manifest_names(settings):
    put(settings)
    put(settings, version=2)
    datasets.begin_version(settings, "cards", 2)
    datasets.begin_version(settings, "movies", None)
    folder = settings.state_dir / "datasets"
    (folder / "cards" / ".dataset.json.1f2e3d4c").touch()
    (folder / "notes").mkdir()
    (folder / "notes" / "of-the-reader.txt").touch()
    datasets.clear_leftovers(settings)

    found = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))
    assert found == ["cards/dataset.json", "cards/v2", "notes/of-the-reader.txt"]
    assert sorted(path.name for path in (folder / "cards/v2/lake").iterdir()) == ["part-1", "part-2"]


def test_removing_a_dataset_removes_every_version_and_says_how_much(settings):
    put(settings)
    (put(settings, version=2).lake / "large").write_bytes(bytes(2_000_000))

    assert datasets.remove_dataset(settings, "cards") == pytest.approx(2.0, abs=0.01)
    assert datasets.dataset_names(settings) == []
    assert not list((settings.state_dir / "datasets").iterdir())


def test_what_an_import_left_can_be_removed_by_name(settings):
    datasets.begin_version(settings, "cards", None)
    datasets.remove_dataset(settings, "cards")

    with pytest.raises(StateError, match="no dataset 'cards'"):
        datasets.remove_dataset(settings, "cards")


def test_a_manifest_that_cannot_be_read_names_the_command_that_helps(settings):
    put(settings)
    (settings.state_dir / "datasets/cards/dataset.json").write_text("{", encoding="utf-8")

    with pytest.raises(StateError, match="cannot be read") as error:
        datasets.read_dataset_manifest(settings, "cards")
    assert error.value.next_command == "workbook data remove cards"
    datasets.remove_dataset(settings, "cards")


def test_a_state_directory_with_datasets_is_still_ours(settings):
    put(settings)

    refuse_foreign(settings.state_dir)
