"""What the public verbs are given: numbers of rows, seeds and limits, checked."""

from __future__ import annotations

import numbers
import operator
from typing import TYPE_CHECKING, Any

from chatan.engine.scheduler import Limits

if TYPE_CHECKING:
    from chatan.source import SourceRows


def row_count(n: Any, source: SourceRows | None) -> int:
    """A number of rows; with a ``source``, of those that it has."""
    try:
        rows = operator.index(n)
    except TypeError:
        raise TypeError(f"n is a number of rows, not {n!r}") from None
    if isinstance(n, bool) or rows < 0:
        raise ValueError(f"n is a number of rows from 0, not {n!r}")
    if source is not None and rows > source.rows:
        raise ValueError(f"n={rows}, but the data that is augmented has {source.rows} rows")
    return rows


def checked_seed(seed: Any) -> int:
    """A seed: a whole number that 64 bits hold."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**63:
        raise TypeError(f"a seed is a whole number of 64 bits, not {seed!r}")
    return seed


def limits_of(concurrency: int | None, rows: int | None, columns: int | None) -> Limits:
    """The limits of one run."""
    for name, limit in {
        "concurrency": concurrency,
        "max_concurrent_rows": rows,
        "max_concurrent_columns": columns,
    }.items():
        if limit is not None and (isinstance(limit, bool) or not _is_whole(limit) or limit < 1):
            raise ValueError(
                f"{name} is a number from 1 (leave it out for no limit of the run), not {limit!r}"
            )
    return Limits(concurrency, rows, columns)


def _is_whole(number: object) -> bool:
    return isinstance(number, numbers.Integral)  # numpy's are
