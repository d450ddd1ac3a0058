"""Keyed random numbers: a draw depends on a stream and a key (a day, the start of a slice), never on earlier draws.

In: the seed, a stream, a key. Out: a generator.
Invariant: the same key gives the same draws, in any order of calls and in any process.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats

_SEED_SPACE = 2**64


class Stream(IntEnum):
    """The purpose of a generator. Numbers are part of every world's identity: append, never renumber."""

    CARDS = 1
    PAYMENTS = 2
    EPISODES = 3
    SEASONS = 4
    TERMINAL_FRAUD = 5
    CHARGEBACKS = 6
    ATTACK = 7
    VIDEOS = 8
    WAVES = 9
    VIEWERS = 10
    SESSIONS = 11
    PAGES = 12
    RESPONSES = 13
    DISPUTES = 14


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of one stream at one key; the numbers of the key are not negative."""
    return np.random.default_rng(np.random.SeedSequence([seed % _SEED_SPACE, int(stream), *key]))


def draw_indices(rng: np.random.Generator, ladder: Floats, count: int) -> NDArray[np.int64]:
    """`count` random indices, weighted by the steps of `ladder`, a cumulative sum of weights."""
    found: NDArray[np.int64] = np.searchsorted(ladder, rng.random(count) * ladder[-1], side="right")
    return found.clip(max=len(ladder) - 1)
