"""Keyed permutations of any size, computed index by index: nothing is held, nothing shuffled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chatan.schema.randomness import high_product

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from chatan.schema.randomness import Words

_TURNS = 8
_TURNS_OF_FEW = 24
_FEW = 256
_ROUND_STEP = 0x9E3779B97F4A7C15


def shuffled(key: int, positions: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.uint64]:
    """Indices below ``size`` for these positions of an endless series of permutations.

    Positions ``0`` to ``size - 1`` make the first permutation, the next ``size`` another one.
    """
    import numpy as np

    rounds, index = np.divmod(positions, np.uint64(size))
    keys = _mixed(_mixed(rounds + np.uint64(key >> 64)) ^ np.uint64(key & (2**64 - 1)))
    # a Feistel network permutes the cells of a rectangle, little more than the size; an index
    # that lands outside is permuted again until it lands inside. An even width, because shifts
    # of odd lengths make even permutations alone, and then not all are equally likely
    width = math.isqrt(size - 1) + 1
    width += width % 2
    height = -(-size // width)
    outside = np.arange(len(index))
    while len(outside):
        index[outside] = _permuted(index[outside], keys[outside], height, width)
        outside = outside[index[outside] >= size]
    return index


def _permuted(index: Words, keys: Words, height: int, width: int) -> Words:
    """A permutation of the numbers below ``height * width``, another one for each key."""
    import numpy as np

    row, column = np.divmod(index, np.uint64(width))
    # few cells leave few shifts to choose from in a turn
    for turn in range(0, _TURNS_OF_FEW if height * width <= _FEW else _TURNS, 2):
        row = _shifted(row, column, keys, turn, height)
        column = _shifted(column, row, keys, turn + 1, width)
    return row * np.uint64(width) + column


def _shifted(moved: Words, other: Words, keys: Words, turn: int, size: int) -> Words:
    """``moved``, shifted around by a random number that depends on ``other``."""
    import numpy as np

    step = np.uint64(turn * _ROUND_STEP % 2**64)
    moved = moved + high_product(_mixed(keys + step + other), size)
    return np.where(moved >= size, moved - np.uint64(size), moved)


def _mixed(word: Words) -> Words:
    """Another word for each word, unlike it in about half of the bits (the SplitMix64 mix)."""
    import numpy as np

    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)
