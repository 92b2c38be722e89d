"""What a sampler is: it draws the values of rows, each from the random words of its row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chatan.schema.randomness import key_of, words
from chatan.schema.rows import Rows, Stream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from chatan.schema.randomness import Words

Inputs = Mapping[str, "pa.Array"]
"""Columns that a sampler needs, by name, aligned with the rows to draw."""


class SampleFunction(ABC):
    """A column drawn from a distribution or from a dataset.

    The same (seed, column, row) draws the same value, whichever rows are drawn with it.
    """

    needs: tuple[str, ...] = ()
    """The columns that must be known before this one is drawn."""

    @abstractmethod
    def faults(self) -> list[str]:
        """What is wrong with its arguments; only a sampler without faults can draw."""

    @abstractmethod
    def draw(self, rows: Rows, stream: Stream, inputs: Inputs) -> pa.Array:
        """One value for each of the rows."""

    def pick(
        self, rows: Rows, chosen: npt.NDArray[np.int64], stream: Stream, inputs: Inputs
    ) -> pa.Array:
        """The values of some of the rows: what ``draw`` gives, at the indices ``chosen``.

        A row's identity is all that a value depends on, unless a sampler says otherwise here.
        """
        import numpy as np

        if len(chosen) == len(rows):
            return self.draw(rows, stream, inputs)
        identities = rows.identities
        if identities is None:
            identities = np.arange(rows.start, rows.stop, dtype=np.uint64)
        return self.draw(Rows(0, len(chosen), identities[chosen]), stream, inputs)

    def values(self) -> list[Any] | None:
        """Every value that it can give, where these are known and few."""
        return None

    def arrow_type(self) -> pa.DataType:
        """The type of what it draws; null where that is known only from the values."""
        return self.draw(Rows(0, 0), Stream(0, "", ""), {}).type


class Transform(SampleFunction):
    """A sampler that makes each value of its row's random words, and of nothing else."""

    def draw(self, rows: Rows, stream: Stream, inputs: Inputs) -> pa.Array:
        del inputs
        return self.transform(words(key_of(stream.seed, stream.column), rows))

    @abstractmethod
    def transform(self, words: Words) -> pa.Array:
        """One value for each row of ``words``, shape (rows, 4)."""
