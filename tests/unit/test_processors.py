"""What is computed does not depend on the instructions that the processor happens to have."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys

import numpy as np

from reference_system.event_time import MICROS_PER_DAY
from reference_system.settings import Settings
from reference_system.training.recommendation.recommenders.recommenders import largest
from reference_system.use_cases.recommendation.model import nearest
from reference_system.world.history import generate_block
from reference_system.world.simulation import make_world

DAYS = 7


def of_a_plain_processor() -> dict[str, str]:
    """The environment in which numpy, its linear algebra and the C library use the oldest instructions they know."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    if platform.machine() == "x86_64":
        plain |= {"OPENBLAS_CORETYPE": "Nehalem", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA"}
    return {**os.environ, **plain}


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def digests() -> dict[str, str]:
    """What is compared; also the program that a process of its own runs."""
    world = make_world(Settings(_env_file=None, customers=300, viewers=300))
    happened = generate_block(world, world.generated + DAYS * MICROS_PER_DAY)
    rng = np.random.default_rng(1)
    ties, vectors = rng.integers(0, 4, (50, 900)).astype(np.float32), rng.integers(0, 2, (900, 8)).astype(np.float32)
    return {
        "payments": digest(*happened.payments.arrays().values()),
        "pages": digest(*happened.pages.arrays().values()),
        "watches": digest(*happened.watches.arrays().values()),
        "lists": digest(largest(ties, 10)),
        "candidates": digest(nearest(vectors, np.arange(8, dtype=np.float32), count=60)),
    }


def test_history_and_lists_are_the_same_on_a_plainer_processor():
    process = subprocess.run(
        [sys.executable, __file__], env=of_a_plain_processor(), check=True, capture_output=True, text=True
    )
    assert json.loads(process.stdout) == digests()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests()))
