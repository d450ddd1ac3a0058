"""Arrays in a file: what bundles keep beside the model.

In: arrays, or the bytes of such a file. Out: bytes, or the arrays.
Invariant: nothing is unpickled, and nothing is unpacked that says it is larger than any bundle needs.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reference_system.errors import BundleRefused

MOST_BYTES = 256 * 1024 * 1024


def packed(**arrays: object) -> bytes:
    """The arrays as the bytes of one file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its stub mistakes the names for an option
    return buffer.getvalue()


def unpacked(what: str, content: bytes, wanted: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """The arrays with these names.

    Args:
        what: the file's name in an error message.
        content: its bytes.
        wanted: the names.

    Raises:
        BundleRefused: if it is no such file, is damaged, lacks one, or holds more than `MOST_BYTES` unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_size(archive)
            return {key: _array(archive, key) for key in wanted}
    # zlib, zipfile and numpy each raise types of their own for damaged bytes, and have no common base but Exception.
    except Exception as error:
        raise BundleRefused(f"{what}: {error}") from error


def _require_size(archive: zipfile.ZipFile) -> None:
    size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise BundleRefused(f"{size} bytes unpacked, at most {MOST_BYTES}")


def _array(archive: zipfile.ZipFile, key: str) -> NDArray[np.generic]:
    with archive.open(f"{key}.npy") as member:
        array: NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
        # Checksums are compared at the end of a member: an array that ends earlier is not what was written.
        if member.read(1):
            raise BundleRefused(f"{key} ends before its bytes do")
    return array
