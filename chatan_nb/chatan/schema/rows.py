"""Which rows to draw: their positions, their identities, and the stream they draw from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows ``start`` to ``stop`` (excluded) of a table.

    ``identities`` (uint64, one for each of these rows) stand for the rows where their numbers
    do not: in an augmented frame. ``None``: the row's number is its identity.
    """

    start: int
    stop: int
    identities: npt.NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Stream:
    """A source of randomness: the same (seed, column, row) draws the same, whatever else."""

    seed: int
    dataset: str
    column: str
