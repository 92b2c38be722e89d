"""What a run has to make, worked out once: what is drawn in spans, what cell by cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from chatan.engine.table import CellColumn, DrawnColumn, Table
from chatan.engine.types import ColumnType, annotated_type
from chatan.schema.columns import FunctionColumn, PromptColumn
from chatan.schema.graph import Node, Schema


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A column that is made cell by cell.

    ``waits`` are the steps whose cells it needs, ``feeds`` those that need its own. ``twin``
    counts the columns before it that ask exactly the same: each asks a draw of its own.
    ``conditional`` says that a ``when`` is asked first.
    """

    index: int
    node: Node
    waits: tuple[int, ...]
    feeds: tuple[int, ...]
    twin: int
    conditional: bool

    @property
    def name(self) -> str:
        return self.node.name


class Plan:
    """The columns of a schema in the order in which they are made.

    ``drawn`` are the columns that can be filled a span of rows at a time, because they and all
    they need are samplers, static values and rows that a user brought; ``steps`` the others.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.drawn: list[Node] = []
        made: list[Node] = []
        for name in schema.order:
            node = schema[name]
            cellwise = node.kind in {"prompt", "function"} or not {
                other.name for other in made
            }.isdisjoint(node.needs)
            (made if cellwise else self.drawn).append(node)
        index = {node.name: at for at, node in enumerate(made)}
        feeds: list[list[int]] = [[] for _ in made]
        for node in made:
            for need in node.needs:
                if need in index:
                    feeds[index[need]].append(index[node.name])
        twins: Counter[Any] = Counter()
        self.steps: list[Step] = []
        for node in made:
            question = _question(node)
            self.steps.append(
                Step(
                    index=index[node.name],
                    node=node,
                    waits=tuple(index[need] for need in node.needs if need in index),
                    feeds=tuple(feeds[index[node.name]]),
                    twin=twins[question],
                    conditional=getattr(node.column, "when", None) is not None,
                )
            )
            twins[question] += 1
        needed = {need for node in made for need in node.needs}
        self.given = tuple(node.name for node in self.drawn if node.name in needed)
        """The drawn columns whose values the steps need."""


def make_table(schema: Schema) -> Table:
    """An empty table for a schema."""
    drawn = {node.name for node in Plan(schema).drawn}
    columns: dict[str, DrawnColumn | CellColumn] = {}
    for name, node in schema.items():
        columns[name] = DrawnColumn() if name in drawn else CellColumn(_type_of(node))
    return Table(columns)


def _type_of(node: Node) -> ColumnType:
    column = node.column
    if isinstance(column, FunctionColumn):
        return ColumnType(annotated_type(column.function, column.returns))
    if isinstance(column, PromptColumn) and column.answer is None:
        import pyarrow as pa

        return ColumnType(pa.string())
    return ColumnType()


def _question(node: Node) -> Any:
    """What a prompt column asks, so that columns that ask the same can be told apart."""
    column = node.column
    if not isinstance(column, PromptColumn):
        return node.name
    schema = column.answer.json_schema if column.answer else None
    return (column.messages, column.source.provider.identity, repr(column.call.parameters),
            column.call.model, repr(schema))  # fmt: skip
