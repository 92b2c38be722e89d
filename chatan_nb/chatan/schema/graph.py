"""A schema as a graph: what each column needs, in which order they are made, what is wrong."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chatan.schema.columns import (
    Column,
    FunctionColumn,
    Kind,
    PromptColumn,
    SamplerColumn,
    StaticColumn,
    as_column,
    parameter_names,
)
from chatan.schema.nearest import suggestion
from chatan.schema.samplers import By
from chatan.schema.template import Template
from chatan.schema.values import array_of


class SchemaError(ValueError):
    """A schema that cannot be run; ``faults`` are all that is wrong with it, one text each."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        lead = (
            "the schema has a fault" if len(faults) == 1 else f"the schema has {len(faults)} faults"
        )
        super().__init__(lead + "".join(f"\n  {fault}" for fault in faults))


@dataclass(frozen=True, eq=False)
class Node:
    """A column in its schema.

    ``needs`` are the columns that must be done before it; ``depth`` is the length of the
    longest way to it. ``messages`` are a prompt's (role, template) pairs, read.
    ``arguments`` and ``condition`` are the columns that its function and its ``when`` are
    given; ``None`` for one dictionary of all columns ``above``.
    """

    name: str
    column: Column
    needs: tuple[str, ...]
    depth: int = 0
    messages: tuple[tuple[str, Template], ...] = ()
    arguments: tuple[str, ...] | None = ()
    condition: tuple[str, ...] | None = ()
    above: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return self.column.kind


@dataclass(frozen=True)
class Graph:
    """The columns of a dataset and the edges along which data flows.

    >>> import chatan
    >>> print(chatan.dataset({"a": "x", "b": lambda a: a + "!"}).graph)
    a (static)
    b (function) <- a
    """

    columns: Mapping[str, Kind]
    edges: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = []
        for name, kind in self.columns.items():
            needs = ", ".join(start for start, end in self.edges if end == name)
            lines.append(f"{name} ({kind})" + (f" <- {needs}" if needs else ""))
        return "\n".join(lines)


class Schema(Mapping[str, Node]):
    """The columns of a dataset, checked: iterates in the order in which the user declared them.

    Parameters
    ----------
    columns
        Names to columns, or to what stands for one: functions, samplers, plain values.

    Raises
    ------
    SchemaError
        With all faults at once.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        faults = [] if columns else ["it has no columns: write at least one, {'name': ...}"]
        self.columns: dict[str, Column] = {}
        for name, value in columns.items():
            faults += [f"column {name!r}: {fault}" for fault in _name_faults(name)]
            try:
                self.columns[name] = as_column(value)
            except TypeError as error:
                faults.append(f"column {name!r}: {error}")
                self.columns[name] = StaticColumn(None)
        names = [name for name in self.columns if isinstance(name, str)]
        nodes: dict[str, Node] = {}
        for position, (name, column) in enumerate(self.columns.items()):
            reader = _READERS.get(type(column)) or next(
                (read for kind, read in _READERS.items() if isinstance(column, kind)), _read_plain
            )
            node, wrong = reader(name, column, names, names[:position])
            nodes[name] = node
            faults += [f"column {name!r}: {fault}" for fault in dict.fromkeys(wrong)]
        faults += _cross_faults(nodes)
        self.order: tuple[str, ...] = ()
        try:
            self.order = _order(nodes)
        except graphlib.CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            faults.append(f"columns need each other in a circle: {circle}")
        if faults:
            raise SchemaError(faults)
        self._nodes = _with_depths(nodes, self.order)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def replaced(self, name: str, column: Column) -> Schema:
        """A schema with another column in the place of ``name``; this one is left as it is."""
        return Schema({**self.columns, name: column})

    def dependents(self, names: set[str]) -> set[str]:
        """``names`` and every column that needs one of them, directly or not."""
        found = set(names)
        for name in self.order:
            if not found.isdisjoint(self[name].needs):
                found.add(name)
        return found

    @property
    def graph(self) -> Graph:
        return Graph(
            columns={name: node.kind for name, node in self.items()},
            edges=tuple((need, name) for name, node in self.items() for need in node.needs),
        )


Reading = tuple[Node, list[str]]
Reader = Callable[[str, Any, list[str], list[str]], Reading]


def _read_prompt(name: str, column: PromptColumn, names: list[str], above: list[str]) -> Reading:
    faults: list[str] = []
    messages = []
    for role, text in column.messages:
        template, wrong = Template.parse(text, names)
        messages.append((role, template))
        faults += wrong
        if _has_half_characters(text):
            faults.append(f"the {role} message holds {_HALF}, which cannot be sent")
    condition, wrong = _condition(column.when, names)
    needs = [need for _, template in messages for need in template.needs]
    needs += above if condition is None else condition
    node = Node(
        name,
        column,
        _unique(needs),
        messages=tuple(messages),
        condition=condition,
        above=tuple(above),
    )
    return node, faults + wrong


def _read_function(
    name: str, column: FunctionColumn, names: list[str], above: list[str]
) -> Reading:
    condition, faults = _condition(column.when, names)
    if column.needs is not None:
        hint = "; for other names write chatan.function(fn, needs=[...])"
        faults = [fault + hint for fault in _unknown(column.needs, names)] + faults
    needs = [*(above if column.needs is None else column.needs)]
    needs += above if condition is None else condition
    node = Node(
        name,
        column,
        _unique(needs),
        arguments=column.needs,
        condition=condition,
        above=tuple(above),
    )
    return node, faults


def _read_sampler(name: str, column: SamplerColumn, names: list[str], above: list[str]) -> Reading:
    del above
    faults = column.sampler.faults() + _unknown(column.sampler.needs, names)
    return Node(name, column, column.sampler.needs), faults


def _read_plain(name: str, column: Column, names: list[str], above: list[str]) -> Reading:
    del names, above
    faults = []
    if isinstance(column, StaticColumn) and not _is_simple(column.value):
        try:
            array_of([column.value])
        except ValueError as error:
            faults.append(str(error))
    return Node(name, column, ()), faults


def _is_simple(value: object) -> bool:
    """Whether a table can hold it for certain, so that Arrow need not be loaded to see."""
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, float)


_READERS: dict[type[Column], Reader] = {
    PromptColumn: _read_prompt,
    FunctionColumn: _read_function,
    SamplerColumn: _read_sampler,
}


def _name_faults(name: object) -> Iterator[str]:
    if not isinstance(name, str):
        yield f"a column's name is text; write {str(name)!r}"
    elif not name.strip():
        yield "a column needs a name"
    elif name != name.strip():
        yield f"the name begins or ends with spaces; write {name.strip()!r}"
    elif any(character in name for character in "{}\n\r"):
        yield "a name with braces or line breaks could not be referred to in a prompt"
    elif _has_half_characters(name):
        yield f"the name holds {_HALF}, which no file can store"


_HALF = "half a character (a lone surrogate)"


def _has_half_characters(text: str) -> bool:
    return text != text.encode(errors="ignore").decode()


def _condition(when: object, names: Sequence[str]) -> tuple[tuple[str, ...] | None, list[str]]:
    """The columns that ``when`` is given, and what is wrong with it."""
    if when is None:
        return (), []
    if not callable(when):
        return (), [f"when= takes a function of the row, not {when!r}"]
    try:
        needs = parameter_names(when)
    except TypeError as error:
        return (), [f"when=: {error}"]
    return needs, [] if needs is None else [f"when=: {fault}" for fault in _unknown(needs, names)]


def _unknown(needs: Sequence[str], names: Sequence[str]) -> list[str]:
    return [
        f"it needs {need!r}, which is no column{suggestion(need, names)}"
        for need in needs
        if need not in names
    ]


def _unique(needs: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(needs))


def _cross_faults(nodes: Mapping[str, Node]) -> Iterator[str]:
    """What is wrong between two columns that may be right by themselves."""
    for name, node in nodes.items():
        sampler = node.column.sampler if isinstance(node.column, SamplerColumn) else None
        parent = (
            nodes[sampler.column].column
            if isinstance(sampler, By) and sampler.column in nodes
            else None
        )
        if isinstance(sampler, By) and isinstance(parent, SamplerColumn):
            missing = sampler.missing(parent.sampler.values() or [])
            if missing:
                yield (
                    f"column {name!r}: sample.by({sampler.column!r}, ...) has no entry for "
                    f"{', '.join(map(repr, missing))}; add them, or default=..."
                )
        for _, template in node.messages:
            for reference in template.references:
                target = nodes[reference.column].column
                if not reference.path or not isinstance(target, PromptColumn):
                    continue
                if target.answer is None:
                    fault: str | None = (
                        f"{reference.column!r} is text without fields; give it a schema="
                    )
                else:
                    fault = target.answer.field_fault(reference.path)
                if fault:
                    yield f"column {name!r}: {reference}: {fault}"


def _order(nodes: Mapping[str, Node]) -> tuple[str, ...]:
    known = {name: [need for need in node.needs if need in nodes] for name, node in nodes.items()}
    return tuple(graphlib.TopologicalSorter(known).static_order())


def _with_depths(nodes: Mapping[str, Node], order: Sequence[str]) -> dict[str, Node]:
    depths: dict[str, int] = {}
    for name in order:
        depths[name] = 1 + max((depths[need] for need in nodes[name].needs), default=-1)
    return {name: replace(node, depth=depths[name]) for name, node in nodes.items()}
