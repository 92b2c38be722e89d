"""The cells: their values, states and failures, column by column."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from chatan.engine.types import ColumnType, joined, packed, recast

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1024
"""Rows that are sealed into Arrow together once all of them are settled."""


class State(IntEnum):
    """Where a cell stands."""

    PENDING = 0
    RUNNING = 1
    DONE = 2
    FAILED = 3
    BLOCKED = 4
    SKIPPED = 5
    STALE = 6


SETTLED = frozenset({State.DONE, State.FAILED, State.BLOCKED, State.SKIPPED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell failed: its kind, what happened, after how many attempts, the last answer."""

    kind: str
    message: str
    attempts: int = 1
    answer: str | None = None


class DrawnColumn:
    """A column made span by span, in order: samplers, static values, rows that a user brought."""

    def __init__(self) -> None:
        self.failures: dict[int, Failure] = {}
        self.drawn = 0
        self._spans: list[pa.Array] = []
        self._starts: list[int] = []

    def append(self, span: pa.Array) -> None:
        """Add the next rows.

        Raises
        ------
        ValueError
            If their type has nothing in common with that of the rows before.
        """
        spans = [*self._spans, span]
        if self._spans and self._spans[-1].type != span.type:
            kind = joined(self._spans[-1].type, span.type)
            spans = [recast(held, kind) for held in spans]
        self._starts.append(self.drawn)
        self._spans = spans  # put in place as a whole: other threads may be reading
        self.drawn += len(span)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was added yet, not even an empty span."""
        return not self._spans

    def get(self, row: int) -> Any:
        if row >= self.drawn:
            return None
        at = bisect.bisect_right(self._starts, row) - 1
        return self._spans[at][row - self._starts[at]].as_py()

    def state(self, row: int) -> State:
        if row in self.failures:
            return State.FAILED
        return State.DONE if row < self.drawn else State.PENDING

    def counts(self, rows: int) -> Counter[State]:
        drawn = min(rows, self.drawn)
        failed = sum(row < rows for row in self.failures.copy())
        return Counter(
            {State.DONE: drawn - failed, State.FAILED: failed, State.PENDING: rows - drawn}
        )

    def span(self, start: int, stop: int) -> pa.Array:
        """The rows ``start`` to ``stop``, all of them drawn, as one array."""
        return self.arrow(stop).slice(start).combine_chunks()

    def values(self, start: int, stop: int) -> list[Any]:
        values: list[Any] = self.span(start, stop).to_pylist()
        return values

    def arrow(self, rows: int) -> pa.ChunkedArray:
        import pyarrow as pa

        spans = self._spans
        kind = spans[0].type if spans else pa.null()
        missing = rows - sum(map(len, spans))
        padding = [pa.nulls(missing, kind)] if missing > 0 else []
        return pa.chunked_array([*spans, *padding], type=kind).slice(0, rows)


class CellColumn:
    """A column made cell by cell, in any order: prompts, functions, what depends on them.

    Values are Python objects while their block of rows is being made, and one Arrow array
    from when it is complete.
    """

    def __init__(self, kind: ColumnType) -> None:
        self.type = kind
        self.failures: dict[int, Failure] = {}
        self.states = bytearray()
        self._blocks: list[list[Any] | pa.Array] = []

    def extend(self, rows: int) -> None:
        """Make room for ``rows`` rows in all."""
        while len(self._blocks) * BLOCK < rows:
            self._blocks.append([None] * BLOCK)
        self.states.extend(bytes(max(0, rows - len(self.states))))

    def get(self, row: int) -> Any:
        block = self._blocks[row // BLOCK]
        value = block[row % BLOCK]
        return value if isinstance(block, list) else value.as_py()

    def state(self, row: int) -> State:
        return State(self.states[row]) if row < len(self.states) else State.PENDING

    def put(self, row: int, value: Any, state: State = State.DONE) -> Any:
        """Store a value; returns it as the column holds it.

        Raises
        ------
        ValueError
            If the value does not fit the column; the cell is left as it was.
        """
        value = self.type.fit(value)
        self._open(row)[row % BLOCK] = value
        self.states[row] = state
        self.failures.pop(row, None)
        return value

    def fail(self, row: int, failure: Failure) -> None:
        self._clear(row, State.FAILED)
        self.failures[row] = failure

    def mark(self, row: int, state: State) -> None:
        """Set a state that comes without a value; a stale cell keeps the one it had until a new
        one comes.
        """
        if state in {State.STALE, State.RUNNING}:
            self.states[row] = state
        else:
            self._clear(row, state)

    def _clear(self, row: int, state: State) -> None:
        block = self._blocks[row // BLOCK]
        if not isinstance(block, list) or block[row % BLOCK] is not None:
            self._open(row)[row % BLOCK] = None
        self.states[row] = state
        self.failures.pop(row, None)

    def _open(self, row: int) -> list[Any]:
        block = self._blocks[row // BLOCK]
        if not isinstance(block, list):
            block = self._blocks[row // BLOCK] = block.to_pylist()
        return block

    def seal(self, block: int) -> None:
        """Pack a block of rows that are all settled into Arrow, where it takes least room."""
        values = self._blocks[block]
        if isinstance(values, list):
            self._blocks[block] = packed(values, self.type.stored)

    def counts(self, rows: int) -> Counter[State]:
        states = self.states[:rows]
        counts = Counter({state: states.count(state) for state in State})
        counts[State.PENDING] += rows - len(states)
        return counts

    def arrow(self, rows: int) -> pa.ChunkedArray:
        import pyarrow as pa

        blocks = [
            self._blocks[start // BLOCK][: min(BLOCK, rows - start)]
            for start in range(0, rows, BLOCK)
        ]
        # the type comes after the values: it may widen meanwhile, and holds all that came before
        kind = self.type.stored
        chunks = [
            packed(block, kind) if isinstance(block, list) else recast(block, kind)
            for block in blocks
        ]
        return pa.chunked_array(chunks, type=kind)


class Table:
    """The cells of a dataset: one column each, in the order in which the schema declares them."""

    def __init__(self, columns: dict[str, DrawnColumn | CellColumn]) -> None:
        self.columns = columns
        self.rows = 0

    def extend(self, rows: int) -> None:
        """Make room for ``rows`` rows in all."""
        self.rows = max(self.rows, rows)
        for column in self.columns.values():
            if isinstance(column, CellColumn):
                column.extend(self.rows)

    def row(self, row: int) -> dict[str, Any]:
        """One row as it stands; cells without a value are ``None``."""
        return {name: column.get(row) for name, column in self.columns.items()}

    def seal(self, block: int) -> None:
        for column in self.columns.values():
            if isinstance(column, CellColumn):
                column.seal(block)

    def finished(self, rows: int) -> list[int]:
        """Those of the first ``rows`` rows of which every cell is settled."""
        return [
            row
            for row in range(rows)
            if all(column.state(row) in SETTLED for column in self.columns.values())
        ]

    def counts(self, rows: int) -> dict[str, Counter[State]]:
        """How many cells of the first ``rows`` rows are in which state, by column."""
        return {name: column.counts(rows) for name, column in self.columns.items()}

    def failures(self, rows: int | None = None) -> Iterator[tuple[int, str, Failure]]:
        """The failed cells as (row, column, failure), column by column."""
        for name, column in self.columns.items():
            for row, failure in sorted(column.failures.copy().items()):
                if rows is None or row < rows:
                    yield row, name, failure

    def arrow(self, rows: int, names: Sequence[str] | None = None) -> pa.Table:
        """The first ``rows`` rows as an Arrow table; cells without a value are null."""
        import pyarrow as pa

        chosen = {name: self.columns[name] for name in names or self.columns}
        if not chosen:
            return pa.table({})
        return pa.table({name: column.arrow(rows) for name, column in chosen.items()})
