from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from chatan.schema.permutation import shuffled
from chatan.schema.randomness import below, high_product, key_of, open_unit, philox, unit, words
from chatan.schema.rows import Rows

WORDS = st.integers(0, 2**64 - 1)
EXTREMES = np.array([0, 1, 2**63, 2**64 - 2, 2**64 - 1], np.uint64)


@given(st.integers(0, 2**128 - 1), st.lists(WORDS, min_size=1, max_size=8))
def test_philox_at_any_counter_is_bit_for_bit_that_of_numpy(key: int, counters: list[int]) -> None:
    drawn = philox(key, np.array(counters, np.uint64))
    for counter, row in zip(counters, drawn, strict=True):
        numpy = np.random.Philox(key=key, counter=(counter - 1) % 2**256)
        assert row.tolist() == numpy.random_raw(4).tolist()


@given(st.integers(0, 2**62), st.integers(0, 20), st.integers(0, 2**128 - 1))
def test_a_row_is_a_counter(start: int, length: int, key: int) -> None:
    rows = Rows(start, start + length)
    identities = np.arange(start, start + length, dtype=np.uint64)
    drawn = words(key, rows)
    assert drawn.shape == (length, 4)
    assert np.array_equal(drawn, words(key, Rows(0, length, identities)))


@given(WORDS, WORDS)
def test_high_product_is_that_of_whole_numbers(word: int, factor: int) -> None:
    assert int(high_product(np.array([word], np.uint64), factor)[0]) == word * factor >> 64


@given(WORDS, st.integers(1, 2**63))
def test_below_is_below(word: int, count: int) -> None:
    drawn = int(below(np.array([word], np.uint64), count)[0])
    assert 0 <= drawn < count
    assert drawn == word * count >> 64


def test_shares_keep_off_their_ends() -> None:
    assert unit(EXTREMES).min() == 0
    assert unit(EXTREMES).max() < 1
    assert open_unit(EXTREMES).min() > 0
    assert open_unit(EXTREMES).max() < 1


def test_keys_belong_to_their_parts_alone() -> None:
    parts = [
        (0, "a"),
        ("0", "a"),
        (0, "a", ""),
        (0, "", "a"),
        (0, "a', 'b"),
        (0, "a", "b"),
        (1, "a"),
    ]
    parts += [(0, "\ud800"), (0, "é"), (0, "\\xe9")]
    assert len({key_of(*each) for each in parts}) == len(parts)
    assert all(0 <= key_of(*each) < 2**128 for each in parts)


@given(st.integers(1, 3000), st.integers(0, 2**128 - 1), st.integers(0, 2**40))
def test_each_round_is_a_permutation(size: int, key: int, number: int) -> None:
    positions = np.arange(number * size, (number + 1) * size, dtype=np.uint64)
    drawn = shuffled(key, positions, size)
    assert np.array_equal(np.sort(drawn), np.arange(size))
    some = np.arange(0, size, 7)
    assert np.array_equal(shuffled(key, positions[some], size), drawn[some])


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_all_permutations_are_equally_likely(size: int) -> None:
    orders = list(itertools.permutations(range(size)))
    rounds = 100 * len(orders)
    drawn = shuffled(key_of("orders"), np.arange(rounds * size, dtype=np.uint64), size)
    found, counts = np.unique(drawn.reshape(rounds, size), axis=0, return_counts=True)
    assert len(found) == len(orders)
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_a_large_permutation_mixes_near_and_far() -> None:
    size = 100_003
    drawn = shuffled(key_of("mix"), np.arange(size, dtype=np.uint64), size).astype(np.float64)
    for lag in (1, 2, 316, 317, 1000):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 0.015
    assert abs(np.corrcoef(drawn, np.arange(size))[0, 1]) < 0.015
