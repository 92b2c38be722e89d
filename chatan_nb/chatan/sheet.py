"""One dataset at work: its schema, seed, table, runs and edits; what every face shows."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, TypeVar

from chatan.engine.launch import launch
from chatan.engine.plan import Plan, make_table
from chatan.engine.portal import portal
from chatan.engine.run import Run, refuse_trio
from chatan.engine.scheduler import Limits, Work
from chatan.engine.table import CellColumn, Failure, State
from chatan.engine.tally import Tally, UsageReport
from chatan.schema.columns import Column, Kind, PromptColumn
from chatan.schema.graph import Node, Schema
from chatan.schema.nearest import suggestion

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

T = TypeVar("T")

_STALE_AS = {State.DONE: State.STALE, State.STALE: State.STALE}
"""What becomes of a cell when what it was made from changes; without a value it is pending."""


class Sheet:
    """One dataset at work.

    Parameters
    ----------
    schema
        Its columns.
    seed
        Of all draws.
    name
        Keys what must not repeat across datasets (uuids).
    identities
        Names the rows where their numbers do not (uint64, one a row), worked out when needed.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        seed: int = 0,
        name: str = "",
        identities: Callable[[], npt.NDArray[np.uint64]] | None = None,
    ) -> None:
        self.schema = schema
        self.seed = seed
        self.name = name
        self.table = make_table(schema)
        self._identities = identities
        # how often a column, or a cell (row, column), was changed, itself or what it is made from
        self._versions: Counter[str | tuple[int, str]] = Counter()
        self._samples: Counter[tuple[int, str]] = Counter()
        self._memory: dict[bytes, object] = {}
        self._tallies: list[Tally] = []

    def start(
        self,
        rows: range,
        collect: Callable[[], T],
        *,
        limits: Limits,
        advice: str,
        blocking: bool = False,
        warm: str | None = None,
    ) -> Run[T]:
        """Start a run over ``rows``; ``blocking`` where the calling thread will wait for it."""
        refuse_trio()
        return launch(
            self._work,
            rows,
            collect,
            limits=limits,
            advice=advice,
            home=None if blocking else asyncio._get_running_loop(),
            warm=warm,
            tallies=self._tallies,
        )

    def _work(self) -> Work:
        versions = self._versions.copy()

        def is_current(row: int, name: str) -> bool:
            held, now, cell = versions.get, self._versions.get, (row, name)
            return held(name) == now(name) and held(cell) == now(cell)

        return Work(
            plan=Plan(self.schema),
            table=self.table,
            seed=self.seed,
            name=self.name,
            identities=self._identities,
            samples=self._samples,
            memory=self._memory,
            is_current=is_current,
        )

    def edit(self, name: str, column: Column) -> None:
        """Put another column in the place of ``name``; its cells and those made from it go stale.

        Raises
        ------
        SchemaError
            If the schema would be wrong; nothing has changed then.
        """
        schema = self.schema.replaced(name, column)

        def change() -> None:
            self.schema = schema
            for affected in schema.dependents({name}):
                self._versions[affected] += 1
                cells = self.table.columns[affected]
                if isinstance(cells, CellColumn):
                    for row in range(len(cells.states)):
                        cells.mark(row, _STALE_AS.get(cells.state(row), State.PENDING))

        portal().call(change)

    def regenerate(self, row: int, name: str) -> None:
        """Let the next run draw a cell anew; it and what is made from it go stale in that row.

        Raises
        ------
        KeyError, IndexError, ValueError
            If there is no such column or row, or the column is not made cell by cell.
        """
        node = self.node(name)
        try:
            row = operator.index(row)
        except TypeError:
            raise TypeError(f"a row is its position in the table, from 0, not {row!r}") from None
        if not 0 <= row < self.table.rows:
            raise IndexError(f"there is no row {row}: {self.table.rows} rows have been generated")
        if not isinstance(self.table.columns[name], CellColumn):
            raise ValueError(f"column {name!r} is a {node.kind} column: no cell of it is made anew")

        def change() -> None:
            self._samples[row, name] += 1
            for affected in self.schema.dependents({name}):
                self._versions[row, affected] += 1
                cells = self.table.columns[affected]
                if isinstance(cells, CellColumn):
                    cells.mark(row, _STALE_AS.get(cells.state(row), State.PENDING))

        portal().call(change)

    def node(self, name: str) -> Node:
        """The column ``name`` in the schema; ``KeyError`` with the nearest name otherwise."""
        if name not in self.schema:
            raise KeyError(f"there is no column {name!r}{suggestion(str(name), self.schema)}")
        return self.schema[name]

    def arrow(self, rows: int) -> pa.Table:
        """The first ``rows`` rows as they stand."""
        return self.table.arrow(rows)

    def failures(self) -> Iterator[tuple[int, str, Failure]]:
        """The failed cells as (row, column, failure)."""
        return self.table.failures()

    @property
    def has_run(self) -> bool:
        """Whether a run was ever begun."""
        return bool(self._tallies)

    def states(self) -> Counter[State]:
        """How many cells are in which state, over all columns."""
        total: Counter[State] = Counter()
        for counts in self.table.counts(self.table.rows).values():
            total.update(counts)
        return total

    def __reduce__(self) -> NoReturn:
        raise TypeError("a dataset at work is not copied; save its table with ds.save(...)")

    @property
    def usage(self) -> UsageReport:
        """What all runs have sent and used."""
        return UsageReport.of(self._tallies)


class ColumnHandle:
    """A column of a dataset: what it is, and the place to edit it.

    >>> import chatan
    >>> gen = chatan.generator("openai", "your-api-key")
    >>> ds = chatan.dataset({"topic": "rain", "poem": gen("A poem about {topic}")})
    >>> ds["poem"].prompt = "A haiku about {topic}"
    >>> ds["poem"]
    <column 'poem': prompt 'A haiku about {topic}'>
    """

    __slots__ = ("_name", "_sheet")

    def __init__(self, sheet: Sheet, name: str) -> None:
        sheet.node(name)
        self._sheet = sheet
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> Kind:
        """``"sampler"``, ``"prompt"``, ``"function"``, ``"static"`` or ``"source"``."""
        return self._sheet.node(self._name).kind

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that it is made from."""
        return self._sheet.node(self._name).needs

    @property
    def states(self) -> dict[str, int]:
        """How many of its cells are in which state."""
        counts = self._sheet.table.columns[self._name].counts(self._sheet.table.rows)
        return {state.name.lower(): number for state, number in counts.items() if number}

    @property
    def prompt(self) -> str:
        """The template of the prompt; setting it makes the column, and what needs it, stale."""
        return self._column().prompt

    @prompt.setter
    def prompt(self, text: str) -> None:
        self._edit("user", text)

    @property
    def system(self) -> str | None:
        """The template of the system prompt; may be set like ``prompt``, ``None`` for none."""
        return self._column().system

    @system.setter
    def system(self, text: str | None) -> None:
        self._edit("system", text)

    def _column(self) -> PromptColumn:
        column = self._sheet.node(self._name).column
        if not isinstance(column, PromptColumn):
            raise AttributeError(
                f"column {self._name!r} is a {column.kind} column without a prompt"
            )
        return column

    def _edit(self, role: str, text: str | None) -> None:
        if not isinstance(text, str) and not (text is None and role == "system"):
            raise TypeError(f"a prompt is a text, not {text!r}")
        column = self._column()
        messages = list(column.messages)
        places = [at for at, (held, _) in enumerate(messages) if held == role]
        if places:
            messages[places[-1] : places[-1] + 1] = [] if text is None else [(role, text)]
        elif text is not None:
            messages.insert(0, (role, text))
        if tuple(messages) != column.messages:
            self._sheet.edit(self._name, replace(column, messages=tuple(messages)))

    def __repr__(self) -> str:
        what = f" {self.prompt!r}" if self.kind == "prompt" else ""
        return f"<column {self._name!r}: {self.kind}{what}>"
