"""Bundles: the files that serving loads, and the check that they are what training wrote.

A bundle is a folder: `manifest.json`, `model.onnx`, `golden.npz` (rows with the scores that the model gave when it
was written) and, for recommendation, `catalogue.npz`. The manifest holds the digest of each other file,
`manifest.sha256` its own.

In: a folder. Out: a `Bundle`, or `BundleRefused` with the reason.
Invariant: nothing is loaded from a folder whose names, digests, inputs or golden scores differ from its manifest;
the pointer `current` names a version whose bundle was verified.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.errors import BundleRefused
from reference_system.registry.bundles.catalogue import BundleCatalogue, read_bundle_catalogue
from reference_system.registry.bundles.npz_arrays import MOST_BYTES, packed, unpacked
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.replaced_files import replace_file
from reference_system.use_case import UseCase
from reference_system.use_cases import DECLARATIONS

MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
MODEL = "model.onnx"
GOLDEN = "golden.npz"
CATALOGUE = "catalogue.npz"
CURRENT = "current"
# A registered version is a number; nothing else may become a path.
_MAX_VERSION_DIGITS = 9
_GOLDEN_TOLERANCE = 1e-5


class DataWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The event times `[start, end)` that a model was trained on."""

    start: datetime
    end: datetime


class ReviewThresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores from which the fraud policy reviews and blocks."""

    review: float
    block: float


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says of itself.

    `data_digest` is that of the rows it learned from, `trigger` why it was trained.
    """

    use_case: UseCase
    model_version: str
    estimator: str
    inputs: tuple[str, ...]
    created_timestamp: datetime
    data_window: DataWindow
    metrics: dict[str, float]
    files: dict[str, str]
    thresholds: ReviewThresholds | None = None
    usual: tuple[float, ...] | None = None
    data_digest: str = ""
    trigger: str = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Rows, shape (m, width), and the scores, shape (m,), that the model gave when the bundle was written."""

    inputs: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified model with everything that an answer needs."""

    manifest: BundleManifest
    scorer: OnnxScorer
    catalogue: BundleCatalogue | None
    directory: Path


def write_bundle(
    directory: Path,
    manifest: BundleManifest,
    *,
    model: bytes,
    golden: Golden,
    catalogue: BundleCatalogue | None = None,
) -> Path:
    """Write a bundle whole or not at all; the manifest's `files` are filled in here.

    Returns:
        The folder. A folder that was there before is replaced.
    """
    contents = {MODEL: model, GOLDEN: packed(inputs=golden.inputs, scores=golden.scores)}
    if catalogue is not None:
        contents[CATALOGUE] = packed(**{name: getattr(catalogue, name) for name in BundleCatalogue.__slots__})
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents[MANIFEST] = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, files=digests)))
    contents[MANIFEST_DIGEST] = hashlib.sha256(contents[MANIFEST]).hexdigest().encode()
    directory.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    for name, content in contents.items():
        (workplace / name).write_bytes(content)
    if directory.exists():
        shutil.rmtree(directory)
    workplace.rename(directory)
    return directory


def load_bundle(directory: Path, *, use_case: str, inputs: tuple[str, ...]) -> Bundle:
    """Verify a bundle and load it.

    Args:
        directory: the bundle's folder.
        use_case: what the caller wants to serve with it.
        inputs: the input names that the caller will give, in order.

    Raises:
        BundleRefused: with the file or field that is not as it must be; nothing else, whatever the files hold.
    """
    with _refusing(directory):
        manifest = read_bundle_manifest(directory)
        if manifest.use_case != use_case:
            raise BundleRefused(f"{directory.name}: a bundle for {manifest.use_case}, wanted for {use_case}")
        if manifest.model_version != directory.name:
            raise BundleRefused(f"{directory.name}: the bundle of version {manifest.model_version} stands here")
        if manifest.inputs != inputs:
            differ = ", ".join(sorted(set(manifest.inputs) ^ set(inputs)) or ["their order"])
            raise BundleRefused(f"{directory.name}: its inputs are not the service's; what differs: {differ}")
        contents = _verified_contents(directory, manifest)
        scorer = OnnxScorer(contents[MODEL])
        if scorer.width != len(inputs):
            raise BundleRefused(
                f"{directory.name}: the model takes {scorer.width} inputs, the manifest names {len(inputs)}"
            )
        _replay_golden(directory, scorer, contents[GOLDEN])
        what = f"{directory.name}: {CATALOGUE}"
        catalogue = read_bundle_catalogue(what, contents[CATALOGUE]) if CATALOGUE in contents else None
        return Bundle(manifest=manifest, scorer=scorer, catalogue=catalogue, directory=directory)


def version_folder(root: Path, use_case: str, version: str) -> Path:
    """Where the bundle of a version lives.

    Raises:
        BundleRefused: if the version is not a plain number (and could name another place).
    """
    if not (version.isascii() and version.isdigit() and len(version) <= _MAX_VERSION_DIGITS):
        raise BundleRefused(f"{use_case}: {version!r} is no model version")
    return root / use_case / version


def current_version(root: Path, use_case: str) -> str | None:
    """The version that serving should load, or `None` before the first promotion."""
    pointer = root / use_case / CURRENT
    # Whatever a damaged pointer holds is no version: `version_folder` refuses it.
    return (pointer.read_text(encoding="utf-8", errors="replace").strip() or None) if pointer.exists() else None


def set_current(root: Path, use_case: str, version: str) -> None:
    """Point serving at a version, atomically. Verify the bundle first."""
    folder = version_folder(root, use_case, version)
    if not folder.is_dir():
        raise BundleRefused(f"{use_case}: version {version} has no bundle in {folder.parent}")
    replace_file(folder.parent / CURRENT, version.encode(), durable=True)


def verify_current(root: Path, use_case: str) -> None:
    """Check the files of the version that the pointer names; its model is not run.

    Raises:
        BundleRefused: if the pointer names none, or serving would refuse what it names.
    """
    version = current_version(root, use_case)
    if version is None:
        raise BundleRefused(f"no version is champion in {root / use_case}")
    folder = version_folder(root, use_case, version)
    with _refusing(folder):
        _verified_contents(folder, read_bundle_manifest(folder))


def read_bundle_manifest(directory: Path) -> BundleManifest:
    """What the bundle says of itself; its other files are not looked at.

    Raises:
        BundleRefused: if the manifest is not what training wrote.
    """
    content, digest = (_read_plain(directory, name) for name in (MANIFEST, MANIFEST_DIGEST))
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise BundleRefused(f"{directory.name}: {MANIFEST} does not have the digest that {MANIFEST_DIGEST} holds")
    try:
        manifest = msgspec.json.decode(content, type=BundleManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleRefused(f"{directory.name}: {MANIFEST}: {error}") from error
    numbers = (*manifest.metrics.values(), *(manifest.usual or ()))
    if not all(math.isfinite(number) for number in numbers):
        raise BundleRefused(f"{directory.name}: {MANIFEST} holds a number that is not finite")
    if DECLARATIONS[manifest.use_case].has_thresholds and (
        manifest.thresholds is None or manifest.usual is None or len(manifest.usual) != len(manifest.inputs)
    ):
        raise BundleRefused(f"{directory.name}: such a bundle needs thresholds and one usual value for each input")
    if manifest.thresholds is not None and not manifest.thresholds.review <= manifest.thresholds.block:
        raise BundleRefused(f"{directory.name}: the review threshold lies above the block threshold")
    return manifest


@contextmanager
def _refusing(directory: Path) -> Iterator[None]:
    """Whatever is raised inside is a refusal: zlib, numpy and ONNX Runtime have types of their own for damage."""
    try:
        yield
    except BundleRefused:
        raise
    except Exception as error:
        raise BundleRefused(f"{directory.name}: {type(error).__name__}: {error}") from error


def _verified_contents(directory: Path, manifest: BundleManifest) -> dict[str, bytes]:
    """The files' bytes, read once: what was verified is what is loaded."""
    expected = {MODEL, GOLDEN} | ({CATALOGUE} if DECLARATIONS[manifest.use_case].has_catalogue else set())
    found = {path.name for path in directory.iterdir()} - {MANIFEST, MANIFEST_DIGEST}
    for what, names in (("in the folder", found), ("in the manifest", set(manifest.files))):
        if names != expected:
            differ = ", ".join(sorted(names ^ expected))
            raise BundleRefused(f"{directory.name}: the files {what} are not those of such a bundle: {differ}")
    contents = {}
    for name, digest in manifest.files.items():
        contents[name] = _read_plain(directory, name)
        actual = hashlib.sha256(contents[name]).hexdigest()
        if actual != digest:
            raise BundleRefused(
                f"{directory.name}: {name} has digest {actual[:12]}…, the manifest says {digest[:12]}…"
            )
    return contents


def _read_plain(directory: Path, name: str) -> bytes:
    """The file's bytes, if it is a file of its own (a link may lead anywhere) and of a size that fits."""
    path = directory / name
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise BundleRefused(f"{directory.name}: {name} is not a plain file of at most {MOST_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BundleRefused(f"{directory.name}: {name} cannot be read: {error.strerror}") from error


def _replay_golden(directory: Path, scorer: OnnxScorer, content: bytes) -> None:
    golden = unpacked(f"{directory.name}: {GOLDEN}", content, ("inputs", "scores"))
    rows, scores = golden["inputs"], golden["scores"]
    if not (rows.dtype == scores.dtype == np.float32 and len(scores) and rows.shape == (len(scores), scorer.width)):
        raise BundleRefused(f"{directory.name}: {GOLDEN} has no rows of {scorer.width} inputs with a score for each")
    difference = np.abs(scorer.score(rows.astype(np.float32)) - scores.astype(np.float64))
    if not np.all(difference <= _GOLDEN_TOLERANCE):
        worst = float(np.max(np.nan_to_num(difference, nan=np.inf)))
        raise BundleRefused(f"{directory.name}: golden rows score differently here, by up to {worst:.2g}")
