"""The kinds of damage to a bundle, drawn from a random generator.

In: a bundle's folder, a generator. Out: the same folder, damaged.
Invariant: most kinds also update the digests, so that a check after the digests must refuse them. Every damage
changes the bundle's content.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from reference_system.proofs.bad_models.onnx_tiny_bundle import TINY_INPUTS, WEIGHTS, failing_model, tiny_model
from reference_system.registry.bundles.bundle import GOLDEN, MANIFEST, MANIFEST_DIGEST, MODEL
from reference_system.registry.bundles.npz_arrays import packed

Damage = Callable[[Path, np.random.Generator], None]
_FILES = (MANIFEST, MANIFEST_DIGEST, MODEL, GOLDEN)
_BOMB_BYTES = 300 * 1024 * 1024
# Offset of the lengths of name and extra field in the header of an archive's member, and the header's size.
_LENGTHS_AT, _HEADER_BYTES = 26, 30
_WEIGHT_BYTES = 4


def packed_places(content: bytes) -> Iterator[range]:
    """The byte ranges of the compressed data of each member of an archive, without name and date."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            lengths = struct.unpack_from("<HH", content, member.header_offset + _LENGTHS_AT)
            start = member.header_offset + _HEADER_BYTES + sum(lengths)
            yield range(start, start + member.compress_size)


def flipped_in_arrays(content: bytes, rng: np.random.Generator) -> bytes:
    """An archive of arrays with one bit of its compressed data flipped, so that its content changes."""
    places = list(packed_places(content))
    while True:
        place = places[int(rng.integers(len(places)))]
        changed = bytearray(content)
        changed[int(rng.integers(place.start, place.stop))] ^= 1 << int(rng.integers(8))
        # A few bits have no effect: those after the end of the data.
        if _held(bytes(changed)) != _held(content):
            return bytes(changed)


def _held(content: bytes) -> list[bytes] | None:
    """The content of an archive; `None` if it cannot be read to its end."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [archive.read(member) for member in archive.infolist()]
    except (zlib.error, zipfile.BadZipFile, EOFError):
        return None


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
    weights = tuple(float(weight) for weight in rng.normal(size=len(TINY_INPUTS)) + 3.0)
    _rewrite(folder, **{MODEL: tiny_model(weights)})


def _wider_model(folder: Path, rng: np.random.Generator) -> None:
    _rewrite(folder, **{MODEL: tiny_model((*rng.normal(size=len(TINY_INPUTS) + 1).tolist(),))})


def _failing_model(folder: Path, _: np.random.Generator) -> None:
    _rewrite(folder, **{MODEL: failing_model()})


def _flip_in_model(folder: Path, rng: np.random.Generator) -> None:
    """Flip a bit in the upper two bytes of a weight, where it exceeds rounding, or in an operator's name."""
    content = bytearray((folder / MODEL).read_bytes())
    first = content.index(np.array(WEIGHTS, "<f4").tobytes())
    heavy = [first + place for place in range(_WEIGHT_BYTES * len(WEIGHTS)) if place % _WEIGHT_BYTES > 1]
    named = [content.index(name) + place for name in (b"MatMul", b"Sigmoid", b"Concat") for place in range(len(name))]
    content[int(rng.choice(heavy + named))] ^= 1 << int(rng.integers(8))
    _rewrite(folder, **{MODEL: bytes(content)})


def _flip_in_golden(folder: Path, rng: np.random.Generator) -> None:
    _rewrite(folder, **{GOLDEN: flipped_in_arrays((folder / GOLDEN).read_bytes(), rng)})


def _no_model(folder: Path, rng: np.random.Generator) -> None:
    _rewrite(folder, **{MODEL: rng.bytes(200)})


def _renamed_input(folder: Path, rng: np.random.Generator) -> None:
    names = list(TINY_INPUTS)
    names[int(rng.integers(len(names)))] = f"input_{int(rng.integers(1_000))}"
    _edit(folder, inputs=names)


def _reordered_inputs(folder: Path, rng: np.random.Generator) -> None:
    _edit(folder, inputs=np.roll(TINY_INPUTS, int(rng.integers(1, len(TINY_INPUTS)))).tolist())


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
    _rewrite(folder, **{GOLDEN: packed(inputs=inputs, scores=scores + shift)})


def _zip_bomb(folder: Path, _: np.random.Generator) -> None:
    _rewrite(folder, **{GOLDEN: _bomb()})


DAMAGES: Mapping[str, Damage] = {
    "a bit flipped": _flip,
    "cut off": _truncate,
    "bytes inserted": _insert,
    "a file removed": _remove,
    "two files swapped": _swap,
    "a pickle added": _add_pickle,
    "a link instead of a file": _link,
    "another model, digests mended": _other_model,
    "a model of another width, digests mended": _wider_model,
    "a model that fails as it runs, digests mended": _failing_model,
    "a bit flipped deep in the model, digests mended": _flip_in_model,
    "a bit flipped deep in the golden rows, digests mended": _flip_in_golden,
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
    """Replace files and update their digests in the manifest."""
    digests = dict(msgspec.json.decode((folder / MANIFEST).read_bytes())["files"])
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    _edit(folder, files=digests)


def _edit(folder: Path, **changes: object) -> None:
    """Change the manifest and update its digest."""
    content = msgspec.json.encode(msgspec.json.decode((folder / MANIFEST).read_bytes()) | changes)
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_DIGEST).write_text(hashlib.sha256(content).hexdigest())


@cache
def _bomb() -> bytes:
    """A small archive that expands to far more than any bundle needs."""
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
