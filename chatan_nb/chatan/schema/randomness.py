"""Random words by counter: a key and a row give the same words, however rows are cut."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from chatan.schema.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]

WORDS_PER_ROW = 4
"""Words of 64 bits: what one step of Philox 4x64 gives."""

_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_WORD = 2**64 - 1


def key_of(*parts: int | str) -> int:
    """A Philox key of 128 bits that belongs to these parts alone."""
    # ascii() keeps parts apart and, unlike repr(), is the same in every version of Python
    return int.from_bytes(hashlib.blake2b(ascii(parts).encode(), digest_size=16).digest(), "little")


def words(key: int, rows: Rows) -> Words:
    """Four random words for each row, shape (rows, 4), type uint64: the row is the counter."""
    import numpy as np

    if rows.identities is not None:
        return philox(key, rows.identities)
    # numpy counts up before it draws
    generator = np.random.Philox(key=key, counter=(rows.start - 1) % 2**256)
    return generator.random_raw(WORDS_PER_ROW * len(rows)).reshape(-1, WORDS_PER_ROW)


def philox(key: int, counters: Words) -> Words:
    """Philox 4x64-10 at any counters below 2**64, in any order; shape (counters, 4).

    Bit for bit what ``numpy.random.Philox`` gives, which can only go from one counter to the
    next.
    """
    import numpy as np

    left, right = key & _WORD, key >> 64
    zeros = np.zeros_like(counters)
    first, second, third, fourth = counters, zeros, zeros, zeros
    for _ in range(10):
        first, second, third, fourth = (
            high_product(third, _MULTIPLIERS[1]) ^ second ^ np.uint64(left),
            third * np.uint64(_MULTIPLIERS[1]),
            high_product(first, _MULTIPLIERS[0]) ^ fourth ^ np.uint64(right),
            first * np.uint64(_MULTIPLIERS[0]),
        )
        left, right = (left + _KEY_STEPS[0]) & _WORD, (right + _KEY_STEPS[1]) & _WORD
    return np.stack([first, second, third, fourth], axis=1)


def high_product(word: Words, factor: int) -> Words:
    """The high 64 of the 128 bits of ``word * factor``."""
    import numpy as np

    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    factor_low, factor_high = np.uint64(factor & 0xFFFFFFFF), np.uint64(factor >> 32)
    low, high = word & mask, word >> half
    middle = high * factor_low + (low * factor_low >> half)
    upper: Words = middle >> half
    if factor_high:
        upper += high * factor_high + (low * factor_high + (middle & mask) >> half)
    return upper


def below(word: Words, count: int) -> npt.NDArray[np.int64]:
    """Whole numbers from 0 to ``count`` (excluded; less than 2**64), all equally likely.

    Those of 2**63 and above wrap, as int64 arithmetic does.
    """
    import numpy as np

    return high_product(word, count).view(np.int64)


def unit(word: Words) -> npt.NDArray[np.float64]:
    """Numbers from 0 (included) to 1 (excluded), in steps of 2**-53."""
    import numpy as np

    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53


def open_unit(word: Words) -> npt.NDArray[np.float64]:
    """Numbers between 0 and 1, neither of them included: for inverses that are infinite there."""
    import numpy as np

    return ((word >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
