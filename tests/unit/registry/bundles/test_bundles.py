"""Bundles: what training wrote is loaded, anything else is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_models import (
    ROWS,
    TINY_INPUTS,
    mend_digests,
    rewrite_manifest,
    tiny_bundle,
    tiny_catalogue,
    tiny_manifest,
    tiny_scores,
)

from reference_system.errors import BundleRefused
from reference_system.proofs.bad_models.bundle_damages import flipped_in_arrays
from reference_system.proofs.bad_models.onnx_tiny_bundle import failing_model, tiny_model
from reference_system.registry.bundles.bundle import (
    CATALOGUE,
    GOLDEN,
    MANIFEST,
    MANIFEST_DIGEST,
    MODEL,
    Golden,
    ReviewThresholds,
    current_version,
    load_bundle,
    set_current,
    verify_current,
    version_folder,
    write_bundle,
)
from reference_system.registry.bundles.onnx_scorer import OnnxScorer

EVERY_FILE = (MANIFEST, MANIFEST_DIGEST, MODEL, GOLDEN, CATALOGUE)


@pytest.fixture
def folder(tmp_path):
    return tiny_bundle(tmp_path, "recommendation")


def load(folder, use_case="recommendation", inputs=TINY_INPUTS):
    return load_bundle(folder, use_case=use_case, inputs=inputs)


def test_a_bundle_is_loaded_as_it_was_written(folder):
    bundle = load(folder)
    assert bundle.manifest.model_version == "1"
    assert bundle.catalogue is not None
    assert bundle.catalogue.video_ids.tolist() == ["m1", "m2", "m3"]
    np.testing.assert_allclose(bundle.scorer.score(ROWS), tiny_scores(), atol=1e-6)


def test_a_fraud_bundle_has_thresholds_and_no_catalogue(tmp_path):
    bundle = load(tiny_bundle(tmp_path), "fraud")
    assert bundle.catalogue is None
    assert bundle.manifest.thresholds == ReviewThresholds(review=0.5, block=0.9)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_one_changed_byte_in_any_file_is_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleRefused):
        load(folder)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleRefused, match=name.split(".")[0]):
        load(folder)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BundleRefused, match=MANIFEST):
        load(tmp_path / "nowhere")


def test_a_file_that_does_not_belong_is_refused_by_its_name(folder):
    (folder / "model.pkl").write_bytes(b"")
    with pytest.raises(BundleRefused, match=r"in the folder .*model\.pkl"):
        load(folder)


def test_a_manifest_cannot_name_a_file_elsewhere(folder):
    rewrite_manifest(folder, files={"../../1/model.onnx": "0" * 64})
    with pytest.raises(BundleRefused, match="in the manifest"):
        load(folder)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_link_in_place_of_a_file_is_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleRefused, match="plain file"):
        load(folder)


def test_inputs_that_are_not_the_services_are_refused_by_name(folder):
    with pytest.raises(BundleRefused, match="what differs: shoe_size, weight"):
        load(folder, inputs=("height", "shoe_size", "age"))


def test_inputs_in_another_order_are_refused(folder):
    with pytest.raises(BundleRefused, match="their order"):
        load(folder, inputs=("weight", "height", "age"))


def test_a_bundle_of_the_other_use_case_is_refused(folder):
    with pytest.raises(BundleRefused, match="a bundle for recommendation, wanted for fraud"):
        load(folder, use_case="fraud")


def test_a_model_that_scores_its_golden_rows_differently_is_refused(tmp_path):
    golden = Golden(inputs=ROWS, scores=tiny_scores() + np.float32(1e-3))
    with pytest.raises(BundleRefused, match="golden rows score differently"):
        load(tiny_bundle(tmp_path, golden=golden), "fraud")


@pytest.mark.parametrize("scores", [np.full(16, np.nan, np.float32), tiny_scores()[:3]])
def test_golden_scores_that_cannot_be_compared_are_refused(tmp_path, scores):
    with pytest.raises(BundleRefused, match=r"golden"):
        load(tiny_bundle(tmp_path, golden=Golden(inputs=ROWS, scores=scores)), "fraud")


def test_a_bundle_without_golden_rows_is_refused(tmp_path):
    golden = Golden(inputs=ROWS[:0], scores=tiny_scores()[:0])
    with pytest.raises(BundleRefused, match="no rows of 3 inputs"):
        load(tiny_bundle(tmp_path, golden=golden), "fraud")


def test_a_fraud_bundle_without_thresholds_is_refused(tmp_path):
    with pytest.raises(BundleRefused, match="needs thresholds"):
        load(tiny_bundle(tmp_path, thresholds=None), "fraud")


def test_thresholds_in_the_wrong_order_are_refused(tmp_path):
    with pytest.raises(BundleRefused, match="above the block threshold"):
        load(tiny_bundle(tmp_path, thresholds=ReviewThresholds(review=0.9, block=0.5)), "fraud")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"popular": np.array([3])}, "popular points outside"),
        ({"neighbour_items": np.array([[0, 7]] * 3)}, "neighbour_items points outside"),
        ({"durations": np.array([1.0])}, "one row for each"),
        ({"neighbour_similarities": np.zeros((3, 1))}, "one similarity for each"),
        ({"categories": np.array(["a", "b", "c"])}, "categories holds"),
        ({"factors": np.zeros((2, 4), np.float32)}, "one row of float32 factors for each"),
        ({"factors": np.zeros((3, 4))}, "one row of float32 factors for each"),
        ({"factors": np.full((3, 4), np.nan, np.float32)}, "factors holds a number that is not finite"),
    ],
)
def test_a_catalogue_that_does_not_fit_together_is_refused(tmp_path, changes, reason):
    with pytest.raises(BundleRefused, match=reason):
        load(tiny_bundle(tmp_path, "recommendation", catalogue=tiny_catalogue(**changes)))


def test_objects_are_never_unpickled(tmp_path):
    catalogue = tiny_catalogue(video_ids=np.array(["m1", "m2", "m3"], object))
    with pytest.raises(BundleRefused, match="allow_pickle"):
        load(tiny_bundle(tmp_path, "recommendation", catalogue=catalogue))


def test_of_a_hundred_random_corruptions_none_is_loaded(tmp_path):
    rng = np.random.default_rng(11)
    original = tiny_bundle(tmp_path, "recommendation")
    loaded = 0
    for number in range(100):
        damaged = tmp_path / "damaged" / str(number) / "1"
        shutil.copytree(original, damaged)
        path = damaged / EVERY_FILE[rng.integers(len(EVERY_FILE))]
        content = bytearray(path.read_bytes())
        place = int(rng.integers(len(content)))
        match rng.integers(3):
            case 0:
                content[place] ^= int(rng.integers(1, 256))
            case 1:
                del content[place:]
            case _:
                content[place:place] = rng.bytes(int(rng.integers(1, 9)))
        path.write_bytes(content)
        try:
            load(damaged)
        except BundleRefused:
            continue
        loaded += 1
    assert loaded == 0


@pytest.mark.parametrize("name", [GOLDEN, CATALOGUE])
def test_a_bit_flipped_deep_in_the_arrays_is_refused_by_name_though_the_digests_were_mended(tmp_path, name):
    folder = tiny_bundle(tmp_path, "recommendation")
    original = (folder / name).read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(150):
        (folder / name).write_bytes(flipped_in_arrays(original, rng))
        mend_digests(folder)
        with pytest.raises(BundleRefused, match=name):
            load(folder)


@pytest.mark.parametrize("name", [MODEL, GOLDEN, CATALOGUE])
def test_whatever_byte_was_changed_and_the_digests_mended_it_is_loaded_or_refused_and_nothing_else(tmp_path, name):
    folder = tiny_bundle(tmp_path, "recommendation")
    original = (folder / name).read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(200):
        content = bytearray(original)
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        (folder / name).write_bytes(content)
        mend_digests(folder)
        try:
            load(folder)
        except BundleRefused:
            refused += 1
    assert refused > 100


def test_a_model_that_fails_as_it_scores_its_golden_rows_is_refused(tmp_path):
    folder = write_bundle(
        version_folder(tmp_path, "fraud", "1"),
        tiny_manifest(),
        model=failing_model(),
        golden=Golden(inputs=ROWS, scores=tiny_scores()),
    )
    with pytest.raises(BundleRefused, match=r"1: .*Reshape"):
        load(folder, "fraud")


def test_a_catalogue_of_no_dimension_is_refused(tmp_path):
    with pytest.raises(BundleRefused, match=CATALOGUE):
        load(tiny_bundle(tmp_path, "recommendation", catalogue=tiny_catalogue(video_ids=np.array("m1"))))


def test_a_folder_that_may_not_be_listed_is_refused(folder, monkeypatch):
    def forbidden(_folder):
        raise PermissionError(13, "Permission denied")

    set_current(folder.parents[1], "recommendation", "1")
    monkeypatch.setattr(type(folder), "iterdir", forbidden)
    with pytest.raises(BundleRefused, match="Permission denied"):
        verify_current(folder.parents[1], "recommendation")


@pytest.mark.parametrize("version", ["", "..", "../2", "1/2", "one", "-1", "²", "1" * 10])
def test_a_version_that_could_be_a_path_is_refused(tmp_path, version):
    with pytest.raises(BundleRefused, match="is no model version"):
        version_folder(tmp_path, "fraud", version)


def test_the_pointer_moves_only_to_a_bundle_that_is_there(tmp_path):
    tiny_bundle(tmp_path, version="1")
    assert current_version(tmp_path, "fraud") is None
    set_current(tmp_path, "fraud", "1")
    with pytest.raises(BundleRefused, match="version 2 has no bundle"):
        set_current(tmp_path, "fraud", "2")
    assert current_version(tmp_path, "fraud") == "1"


@pytest.mark.parametrize("pointer", [None, b"", b"7\n", b"../1\n", b"\xff\xfe"])
def test_a_pointer_to_no_bundle_is_refused_whatever_it_holds(tmp_path, pointer):
    tiny_bundle(tmp_path, "recommendation")
    if pointer is not None:
        (tmp_path / "recommendation" / "current").write_bytes(pointer)
    with pytest.raises(BundleRefused):
        verify_current(tmp_path, "recommendation")


def test_the_bundle_that_the_pointer_names_is_verified(tmp_path):
    folder = tiny_bundle(tmp_path, "recommendation")
    set_current(tmp_path, "recommendation", "1")
    verify_current(tmp_path, "recommendation")
    (folder / MODEL).write_bytes(b"half a model")
    with pytest.raises(BundleRefused, match="digest"):
        verify_current(tmp_path, "recommendation")


def test_moving_the_pointer_leaves_nothing_else_behind(tmp_path):
    tiny_bundle(tmp_path, version="1")
    tiny_bundle(tmp_path, version="2")
    for version in ("1", "2"):
        set_current(tmp_path, "fraud", version)
    assert sorted(path.name for path in (tmp_path / "fraud").iterdir()) == ["1", "2", "current"]


def test_writing_a_version_again_replaces_it(tmp_path):
    tiny_bundle(tmp_path)
    folder = tiny_bundle(tmp_path, metrics={"average_precision": 0.75})
    assert load(folder, "fraud").manifest.metrics == {"average_precision": 0.75}


def test_bytes_that_are_no_model_are_refused(tmp_path):
    folder = write_bundle(
        version_folder(tmp_path, "fraud", "1"),
        tiny_manifest(),
        model=b"not a model",
        golden=Golden(inputs=ROWS, scores=tiny_scores()),
    )
    with pytest.raises(BundleRefused, match="not a model that ONNX Runtime loads"):
        load(folder, "fraud")


def test_a_model_with_more_inputs_than_the_manifest_is_refused(tmp_path):
    folder = write_bundle(
        version_folder(tmp_path, "fraud", "1"),
        tiny_manifest(),
        model=tiny_model((1.0, 2.0, 3.0, 4.0)),
        golden=Golden(inputs=ROWS, scores=tiny_scores()),
    )
    with pytest.raises(BundleRefused, match="takes 4 inputs"):
        load(folder, "fraud")


def test_a_model_without_class_probabilities_is_refused():
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["rows"], ["out"])],
        "no probabilities",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BundleRefused, match="two class probabilities"):
        OnnxScorer(model.SerializeToString())
