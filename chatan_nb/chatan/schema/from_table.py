"""Samplers that draw from the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatan.schema.nearest import suggestion
from chatan.schema.permutation import shuffled
from chatan.schema.randomness import below, key_of, words
from chatan.schema.rows import Rows, Stream
from chatan.schema.sampling import Inputs, SampleFunction
from chatan.schema.sources import Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from chatan.schema.randomness import Words

_ORDERS = ("random", "shuffle", "sequential")


class FromTable(SampleFunction):
    """A column of a table, from the row that is drawn for each row.

    ``aligned``: the draw belongs to the content of the table, not to the name of the column
    that is filled, so that columns of the same table come from the same row of it.
    """

    def __init__(self, source: Source, column: Any, order: Any, cycle: bool, aligned: bool) -> None:
        self._source, self._column, self._order = source, column, order
        self._cycle, self._aligned = cycle, aligned

    def faults(self) -> list[str]:
        faults = self._source.faults(self._column)
        orders = f"the orders are {', '.join(_ORDERS)}"
        if not isinstance(self._order, str):
            faults.append(f"order is {self._order!r}; {orders}")
        elif self._order not in _ORDERS:
            faults.append(f"order is {self._order!r}{suggestion(self._order, _ORDERS)}; {orders}")
        if not faults and self._aligned and self._order != "sequential":
            self._source.digest  # noqa: B018 - of the data as it is now, whatever becomes of it
        return faults

    def values(self) -> list[Any] | None:
        found: list[Any] = self._source.column(self._column).unique().to_pylist()
        return found

    def draw(self, rows: Rows, stream: Stream, inputs: Inputs) -> pa.Array:
        import numpy as np

        del inputs
        if self._order == "random":
            size = len(self._source.column(self._column))
            return self._taken(below(words(self._key(stream), rows)[:, 0], size))
        return self._in_order(np.arange(rows.start, rows.stop, dtype=np.uint64), stream)

    def pick(
        self, rows: Rows, chosen: npt.NDArray[np.int64], stream: Stream, inputs: Inputs
    ) -> pa.Array:
        import numpy as np

        if self._order == "random":
            return super().pick(rows, chosen, stream, inputs)
        return self._in_order(np.arange(rows.start, rows.stop, dtype=np.uint64)[chosen], stream)

    def _key(self, stream: Stream) -> int:
        if self._aligned:
            return key_of(stream.seed, "source", self._source.digest)
        return key_of(stream.seed, stream.column)

    def _in_order(self, positions: Words, stream: Stream) -> pa.Array:
        """The values for rows at these places of the table to fill, whatever their identities."""
        import numpy as np

        size = len(self._source.column(self._column))
        if self._order == "shuffle":
            return self._taken(shuffled(self._key(stream), positions, size))
        past = positions[positions >= size]
        if len(past) and not self._cycle:
            raise ValueError(
                f"row {past[0]} is past the end of the {size} rows of the data; "
                "write cycle=True to begin again, or order='shuffle'"
            )
        return self._taken(positions % np.uint64(size))

    def _taken(self, places: npt.NDArray[Any]) -> pa.Array:
        import pyarrow as pa

        taken = self._source.column(self._column).take(pa.array(places)).combine_chunks()
        if pa.types.is_dictionary(taken.type):
            taken = taken.dictionary_decode()
        # pandas keeps text as large_string; one kind of text is enough
        return taken.cast(pa.string()) if pa.types.is_large_string(taken.type) else taken


class TableRow:
    """Rows of a table to draw from: ``sample.row(data)["column"]`` is a sampler.

    All columns taken from it come from the same row of the table.
    """

    __iter__ = None

    def __init__(self, data: Any, order: Any, cycle: bool) -> None:
        self._source, self._order, self._cycle = Source(data), order, cycle

    def __getitem__(self, column: Any) -> FromTable:
        return FromTable(self._source, column, self._order, self._cycle, aligned=True)
