"""Fills the columns that are drawn in spans, and hands their values to the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from chatan.engine.table import BLOCK, DrawnColumn, Failure
from chatan.schema.columns import SamplerColumn, SourceColumn, StaticColumn
from chatan.schema.graph import Node
from chatan.schema.rows import Rows, Stream

if TYPE_CHECKING:
    import pyarrow as pa

    from chatan.engine.scheduler import Work

SPAN = 65_536
"""Rows drawn at a time where nothing is made cell by cell."""

Given = Callable[[int, int], Iterator[tuple[int, dict[str, Any]]]]


class Drawing:
    """Draws the columns of a plan up to a row, each from where it stands."""

    def __init__(self, work: Work, rows: range) -> None:
        self._work = work
        self._rows = rows
        self._columns: dict[str, DrawnColumn] = {}
        for node in work.plan.drawn:
            column = work.table.columns[node.name]
            assert isinstance(column, DrawnColumn)
            self._columns[node.name] = column

    def spans(self) -> Iterator[tuple[int, int]]:
        """The spans of rows to draw, in order."""
        size = BLOCK if self._work.plan.steps else SPAN
        start = self._rows.start
        if not self._rows:
            yield start, start  # for the types of the columns
        while start < self._rows.stop:
            stop = min(self._rows.stop, start - start % size + size)
            yield start, stop
            start = stop

    def draw(self, stop: int) -> Given:
        """Draw all columns up to row ``stop``; gives the way to read their values off."""
        for node in self._work.plan.drawn:
            column = self._columns[node.name]
            if column.drawn < stop or column.is_untouched:
                self._extend(node, column.drawn, stop)
        return self._given

    def failed(self, row: int) -> set[str]:
        """The drawn columns that failed in this row."""
        return {name for name, column in self._columns.items() if row in column.failures}

    def one(self, node: Node, row: int, values: Mapping[str, Any]) -> Any:
        """Draw one cell of a sampler that depends on cells."""
        import pyarrow as pa

        assert isinstance(node.column, SamplerColumn)
        sampler = node.column.sampler
        inputs = {name: pa.array([values[name]]) for name in node.needs}
        return sampler.draw(self._numbers(row, row + 1), self._stream(node), inputs)[0].as_py()

    def _given(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        names = self._work.plan.given
        columns = [self._columns[name].values(start, stop) for name in names]
        if not names:
            return ((row, {}) for row in range(start, stop))
        return (
            (row, dict(zip(names, values, strict=True)))
            for row, values in enumerate(zip(*columns, strict=True), start)
        )

    def _extend(self, node: Node, start: int, stop: int) -> None:
        """Draw a span; where that fails, its halves, so that only the rows at fault fail."""
        import pyarrow as pa

        column = self._columns[node.name]
        try:
            column.append(self._span(node, start, stop))
        except Exception as error:
            if stop == start:
                return
            if stop - start == 1:
                column.append(pa.nulls(1))
                column.failures[start] = Failure("sampler", str(error))
                return
            middle = (start + stop) // 2
            self._extend(node, start, middle)
            self._extend(node, middle, stop)

    def _span(self, node: Node, start: int, stop: int) -> pa.Array:
        import pyarrow as pa

        definition = node.column
        if isinstance(definition, StaticColumn):
            return pa.repeat(pa.scalar(definition.value), stop - start)
        if isinstance(definition, SourceColumn):
            return definition.values.slice(start, stop - start)
        assert isinstance(definition, SamplerColumn)
        inputs = {name: self._columns[name].span(start, stop) for name in node.needs}
        return definition.sampler.draw(self._numbers(start, stop), self._stream(node), inputs)

    def _numbers(self, start: int, stop: int) -> Rows:
        identities = self._work.identities
        return Rows(start, stop, None if identities is None else identities()[start:stop])

    def _stream(self, node: Node) -> Stream:
        return Stream(self._work.seed, self._work.name, node.name)
