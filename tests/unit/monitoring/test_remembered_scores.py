"""Scores that a look takes over from the one before."""

import numpy as np
import pytest

from reference_system.monitoring.remembered_scores import RememberedScores, keys_of


class Model:
    """One that counts what it was asked."""

    def __init__(self, factor=1.0):
        self.factor, self.asked = factor, 0

    def score(self, inputs):
        self.asked += len(inputs)
        return self.factor * inputs.sum(axis=1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scores.msgpack"


def rows(first, last):
    return np.random.default_rng(1).normal(size=(1_000, 15))[first:last]


def test_a_later_look_asks_only_for_rows_that_are_new(file):
    model = Model()
    look = RememberedScores(file)
    look.of("a", rows(0, 600), model.score)
    look.of("a", rows(300, 700), model.score)
    look.save()
    model.asked = 0
    np.testing.assert_array_equal(
        RememberedScores(file).of("a", rows(100, 800)[::-1], model.score), rows(100, 800)[::-1].sum(axis=1)
    )
    assert model.asked == 100


def test_a_model_never_gets_the_scores_of_another(file):
    look = RememberedScores(file)
    look.of("a", rows(0, 500), Model().score)
    look.save()
    other = Model(factor=2.0)
    np.testing.assert_array_equal(
        RememberedScores(file).of("b", rows(0, 500), other.score), 2.0 * rows(0, 500).sum(axis=1)
    )
    assert other.asked == 500


def test_what_a_look_did_not_ask_for_is_forgotten(file):
    model = Model()
    for first, last in ((0, 500), (400, 600)):
        look = RememberedScores(file)
        look.of("a", rows(first, last), model.score)
        look.save()
    model.asked = 0
    RememberedScores(file).of("a", rows(0, 500), model.score)
    assert model.asked == 400


@pytest.mark.parametrize(
    "content", [b"", b"\x81", b"\x81\xa1a\x92\xc4\x01x\xc4\x01y", b"\x81\xa1a\x92\xc4\x08" + 8 * b"x" + b"\xc4\x00"]
)
def test_of_a_damaged_file_nothing_is_taken(file, content):
    file.write_bytes(content)
    np.testing.assert_array_equal(RememberedScores(file).of("a", rows(0, 9), Model().score), rows(0, 9).sum(axis=1))


def test_a_look_without_rows_is_one(file):
    look = RememberedScores(file)
    assert look.of("a", rows(0, 0), Model().score).shape == (0,)
    look.save()
    assert RememberedScores(file).of("a", rows(0, 5), Model().score).shape == (5,)


def test_rows_that_differ_in_one_bit_of_one_column_have_keys_of_their_own():
    one = np.tile(rows(0, 1), (15 * 52, 1))
    for place in range(len(one)):
        one.view(np.uint64)[place, place % 15] ^= np.uint64(1) << np.uint64(place // 15)
    many = np.vstack([rows(0, 1), one, np.zeros((1, 15)), np.ones((1, 15)), np.roll(rows(0, 1), 1)])
    assert len(np.unique(keys_of(many))) == len(many)


def test_keys_of_a_hundred_thousand_rows_of_small_counts_are_all_different():
    counts = np.random.default_rng(2).integers(0, 4, (100_000, 15)).astype(float)
    assert len(np.unique(keys_of(counts))) == len(np.unique(counts, axis=0))
