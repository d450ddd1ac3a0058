"""Corrupted bundles, run one by one through the verifier that serving uses.

In: a number of bundles, a seed. Out: how many of each kind were refused; whether the old version continued to serve.
Invariant: each damage is drawn from the seed (`proofs/bad_models/bundle_damages.py`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np

from reference_system.proofs.bad_models.bundle_damages import DAMAGES
from reference_system.proofs.bad_models.onnx_tiny_bundle import TINY_INPUTS, write_tiny_bundle
from reference_system.registry.bundles.bundle import Bundle, load_bundle, set_current, version_folder
from reference_system.serving.champions import Champion, ChampionListener, ChampionSource

_SAID = 30


class CorruptReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verifier's results; `problems` lists bundles that were loaded or stopped the old version from serving."""

    times: int
    seed: int
    loaded: int
    still_serving: int
    refused: dict[str, int]
    seconds: float
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no damaged bundle was loaded and the old version served all the time."""
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
        kinds = list(DAMAGES)
        for number in range(times):
            kind = kinds[number % len(kinds)]
            damaged = version_folder(root, "fraud", "2")
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(original, damaged)
            DAMAGES[kind](damaged, rng)
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
        return load_bundle(version_folder(root, "fraud", version), use_case="fraud", inputs=TINY_INPUTS)

    source = ChampionSource(
        pointer=lambda: (root / "fraud" / "current").read_text(encoding="utf-8"),
        alias=lambda: None,
        load=load,
        confirm=lambda version: set_current(root, "fraud", version),
    )
    heard = ChampionListener(loaded=lambda _: None, refused=lambda _, __: None)
    # The clock advances an hour at each poll, so that a refused version is retried without a delay.
    champion = Champion(source, heard, monotonic=lambda: 3_600.0 * next(looks))
    champion.poll_pointer()
    return champion
