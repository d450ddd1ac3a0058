"""Corrupted bundles, one after the other, put before the verifier that serving uses.

In: how many, a seed. Out: how many of each kind were refused; whether the old version went on serving.
Invariant: each damage is drawn from the seed; half of them are the work of somebody who knows the format and mends
the digests, so that what refuses them is a check behind the digests.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np

from reference_system.proofs.onnx_tiny_bundle import INPUTS, tiny_model, write_tiny_bundle
from reference_system.registry.bundles import (
    GOLDEN,
    MANIFEST,
    MANIFEST_DIGEST,
    MODEL,
    Bundle,
    load_bundle,
    set_current,
    version_folder,
)
from reference_system.serving.champions import Champion, Heard, Source

_FILES = (MANIFEST, MANIFEST_DIGEST, MODEL, GOLDEN)
_BOMB_BYTES = 300 * 1024 * 1024
_SAID = 30
Damage = Callable[[Path, np.random.Generator], None]


class CorruptReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the verifier did; `problems` names what was loaded, or what kept the old version from serving."""

    times: int
    seed: int
    loaded: int
    still_serving: int
    refused: dict[str, int]
    seconds: float
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Nothing damaged was loaded, and the old version served all the time."""
        return not self.loaded and self.still_serving == self.times and not self.problems


def corrupt_bundles(*, times: int, seed: int, progress: Callable[[float, str], None]) -> CorruptReport:
    """Damage `times` bundles and offer each to a serving process's champion."""
    began = monotonic()
    rng = np.random.default_rng(seed)
    refused: Counter[str] = Counter()
    problems: list[str] = []
    loaded = serving = 0
    with tempfile.TemporaryDirectory(prefix="corrupt-bundles-") as folder:
        root = Path(folder)
        champion = _champion(root)
        original = write_tiny_bundle(root / "original", "2")
        kinds = list(_DAMAGES)
        for number in range(times):
            kind = kinds[number % len(kinds)]
            damaged = version_folder(root, "fraud", "2")
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(original, damaged)
            _DAMAGES[kind](damaged, rng)
            set_current(root, "fraud", "2")
            champion.poll_pointer()
            answering = champion.current.version if champion.current else None
            if answering == "1":
                refused[kind] += 1
                serving += 1
            else:
                loaded += 1
                problems.append(f"{kind}, number {number}: version {answering} answered")
                champion = _champion(root)
            set_current(root, "fraud", "1")
            champion.poll_pointer()
            progress((number + 1) / times, f"{number + 1} of {times} damaged bundles")
    return CorruptReport(
        times=times,
        seed=seed,
        loaded=loaded,
        still_serving=serving,
        refused=dict(sorted(refused.items())),
        seconds=monotonic() - began,
        problems=tuple(problems[:_SAID]),
    )


def _champion(root: Path) -> Champion[Bundle]:
    """Version 1, verified and serving, as the service holds it."""
    write_tiny_bundle(root, "1")
    set_current(root, "fraud", "1")
    looks = iter(range(10**9))

    def load(version: str) -> Bundle:
        return load_bundle(version_folder(root, "fraud", version), use_case="fraud", inputs=INPUTS)

    source = Source(
        pointer=lambda: (root / "fraud" / "current").read_text(encoding="utf-8"),
        alias=lambda: None,
        load=load,
        confirm=lambda version: set_current(root, "fraud", version),
    )
    heard = Heard(loaded=lambda _: None, refused=lambda _, __: None)
    # Its clock jumps an hour at each look, so that no refused version is left alone for a while.
    champion = Champion(source, heard, monotonic=lambda: 3_600.0 * next(looks))
    champion.poll_pointer()
    return champion


def _flip(folder: Path, rng: np.random.Generator) -> None:
    path, content = _some_file(folder, rng)
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _truncate(folder: Path, rng: np.random.Generator) -> None:
    path, content = _some_file(folder, rng)
    path.write_bytes(content[: int(rng.integers(len(content)))])


def _insert(folder: Path, rng: np.random.Generator) -> None:
    path, content = _some_file(folder, rng)
    place = int(rng.integers(len(content)))
    content[place:place] = rng.bytes(int(rng.integers(1, 9)))
    path.write_bytes(content)


def _remove(folder: Path, rng: np.random.Generator) -> None:
    (folder / _FILES[int(rng.integers(len(_FILES)))]).unlink()


def _swap(folder: Path, rng: np.random.Generator) -> None:
    one, other = rng.choice(_FILES, 2, replace=False)
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def _add_pickle(folder: Path, rng: np.random.Generator) -> None:
    (folder / "model.pkl").write_bytes(rng.bytes(16))


def _link(folder: Path, rng: np.random.Generator) -> None:
    path = folder / _FILES[int(rng.integers(len(_FILES)))]
    kept = folder.parent / ".elsewhere"
    shutil.move(path, kept)
    path.symlink_to(kept)


def _other_model(folder: Path, rng: np.random.Generator) -> None:
    weights = tuple(float(weight) for weight in rng.normal(size=len(INPUTS)) + 3.0)
    _rewrite(folder, **{MODEL: tiny_model(weights)})


def _wider_model(folder: Path, rng: np.random.Generator) -> None:
    _rewrite(folder, **{MODEL: tiny_model((*rng.normal(size=len(INPUTS) + 1).tolist(),))})


def _no_model(folder: Path, rng: np.random.Generator) -> None:
    _rewrite(folder, **{MODEL: rng.bytes(200)})


def _renamed_input(folder: Path, rng: np.random.Generator) -> None:
    names = list(INPUTS)
    names[int(rng.integers(len(names)))] = f"input_{int(rng.integers(1_000))}"
    _edit(folder, inputs=names)


def _reordered_inputs(folder: Path, rng: np.random.Generator) -> None:
    _edit(folder, inputs=np.roll(INPUTS, int(rng.integers(1, len(INPUTS)))).tolist())


def _other_use_case(folder: Path, _: np.random.Generator) -> None:
    _edit(folder, use_case="recommendation")


def _other_version(folder: Path, rng: np.random.Generator) -> None:
    _edit(folder, model_version=str(int(rng.integers(3, 1_000))))


def _thresholds_crossed(folder: Path, rng: np.random.Generator) -> None:
    _edit(folder, thresholds={"review": 0.5 + float(rng.random()) / 2, "block": float(rng.random()) / 2})


def _other_scores(folder: Path, rng: np.random.Generator) -> None:
    with np.load(folder / GOLDEN) as file:
        inputs, scores = file["inputs"], file["scores"]
    shift = np.float32(rng.choice([np.nan, 0.5, 1e-3]))
    _rewrite(folder, **{GOLDEN: _npz(inputs=inputs, scores=scores + shift)})


def _zip_bomb(folder: Path, _: np.random.Generator) -> None:
    _rewrite(folder, **{GOLDEN: _bomb()})


_DAMAGES: dict[str, Damage] = {
    "a bit flipped": _flip,
    "cut off": _truncate,
    "bytes inserted": _insert,
    "a file removed": _remove,
    "two files swapped": _swap,
    "a pickle added": _add_pickle,
    "a link instead of a file": _link,
    "another model, digests mended": _other_model,
    "a model of another width, digests mended": _wider_model,
    "no model at all, digests mended": _no_model,
    "an input renamed, digests mended": _renamed_input,
    "inputs in another order, digests mended": _reordered_inputs,
    "another use case, digests mended": _other_use_case,
    "another version's number, digests mended": _other_version,
    "thresholds crossed, digests mended": _thresholds_crossed,
    "other golden scores, digests mended": _other_scores,
    "a zip bomb, digests mended": _zip_bomb,
}


def _some_file(folder: Path, rng: np.random.Generator) -> tuple[Path, bytearray]:
    path = folder / _FILES[int(rng.integers(len(_FILES)))]
    return path, bytearray(path.read_bytes())


def _rewrite(folder: Path, **contents: bytes) -> None:
    """Replace files and let the manifest say so."""
    digests = dict(msgspec.json.decode((folder / MANIFEST).read_bytes())["files"])
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    _edit(folder, files=digests)


def _edit(folder: Path, **changes: object) -> None:
    """Change the manifest and mend its digest."""
    content = msgspec.json.encode(msgspec.json.decode((folder / MANIFEST).read_bytes()) | changes)
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_DIGEST).write_text(hashlib.sha256(content).hexdigest())


def _npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its stub mistakes the names for an option
    return buffer.getvalue()


@cache
def _bomb() -> bytes:
    """A small archive that says it holds far more than any bundle needs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("inputs.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (_BOMB_BYTES // 12, 3)}
            )
            nothing = bytes(1024 * 1024)
            for _ in range(_BOMB_BYTES // len(nothing)):
                file.write(nothing)
        archive.writestr("scores.npy", b"")
    return buffer.getvalue()
