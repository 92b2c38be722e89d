"""Prompts with ``{column}`` references: how braces are read, and how a row fills them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatan.schema.nearest import nearest, suggestion

_BRACED = re.compile(
    r"\{\{\{(?P<wrapped>[^{}\n]+)\}\}\}|\{\{(?P<escaped>[^{}\n]+)\}\}|\{(?P<plain>[^{}\n]+)\}"
)
_IDENTIFIERS = re.compile(r"[^\W\d]\w*(\.\w+)*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a column, or with a ``path`` to a field of its structured value."""

    column: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "{" + ".".join((self.column, *self.path)) + "}"


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt, read: literal text and references in turn.

    Text in braces that is exactly a column's name, or that and a field's, is a reference.
    ``{{name}}`` stands for the literal ``{name}``. All other braces are literal text.

    >>> template, faults = Template.parse('Judge {"answer": "{answer}"} as {{json}}', ["answer"])
    >>> template.render({"answer": "42"})
    'Judge {"answer": "42"} as {json}'
    """

    parts: tuple[str | Reference, ...]

    @classmethod
    def parse(cls, text: str, columns: Collection[str]) -> tuple[Template, list[str]]:
        """The template, and what is wrong with it: names in braces that are no column.

        A name that is wrong stands as literal text in the template, so that all faults of a
        schema can be told at once.
        """
        pieces: list[str | Reference] = []
        faults: list[str] = []
        end = 0
        for match in _BRACED.finditer(text):
            kind = match.lastgroup or ""
            reading = _read(match[kind], columns)
            if reading is None:
                continue
            pieces.append(text[end : match.start()])
            end = match.end()
            if kind == "escaped":
                pieces.append("{" + match[kind] + "}")
            elif isinstance(reading, Reference):
                # {{{name}}} as format strings read it: a brace, the value, a brace
                pieces += ["{", reading, "}"] if kind == "wrapped" else [reading]
            else:
                faults.append(reading)
                pieces.append(match[0])
        pieces.append(text[end:])
        return cls(tuple(_joined(pieces))), faults

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references, each once, in the order of the text."""
        return tuple(dict.fromkeys(part for part in self.parts if isinstance(part, Reference)))

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that are referred to, each once."""
        return tuple(dict.fromkeys(reference.column for reference in self.references))

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for one row. Values are inserted, never read for references of their own.

        Raises
        ------
        ValueError
            If a value has no such field.
        """
        return "".join(
            [part if isinstance(part, str) else _text_of(part, values) for part in self.parts]
        )


def as_text(value: Any) -> str:
    """How a value stands in a prompt: text as it is, nothing for a null, JSON for a structure."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping | list | tuple):
        import orjson

        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(value)


def field_of(value: Any, path: Sequence[str]) -> Any:
    """The field at ``path``: looked up in dictionaries only, never in Python objects."""
    for name in path:
        if value is None:
            return None
        if not isinstance(value, Mapping) or name not in value:
            known = value if isinstance(value, Mapping) else ()
            raise ValueError(f"its value has no field {name!r}{suggestion(name, known)}")
        value = value[name]
    return value


def _text_of(reference: Reference, values: Mapping[str, Any]) -> str:
    value = values[reference.column]
    if not reference.path:
        return as_text(value)
    try:
        return as_text(field_of(value, reference.path))
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from None


def _joined(pieces: Iterable[str | Reference]) -> Iterator[str | Reference]:
    """The pieces, with neighbouring texts made one and empty ones left out."""
    for is_text, group in itertools.groupby(pieces, lambda piece: isinstance(piece, str)):
        if not is_text:
            yield from group
        elif text := "".join(map(str, group)):
            yield text


def _read(inner: str, columns: Collection[str]) -> Reference | str | None:
    """A reference, the fault of what was meant as one, or ``None`` for literal text."""
    if inner in columns:
        return Reference(inner)
    names = inner.split(".")
    for cut in range(len(names) - 1, 0, -1):
        head = ".".join(names[:cut])
        if head in columns and all(name.strip() for name in names[cut:]):
            return Reference(head, tuple(names[cut:]))
    meant = nearest(inner.strip(), columns)
    if meant is None and not _IDENTIFIERS.fullmatch(inner):
        return None
    hint = f"; did you mean {{{meant}}}?" if meant else f"; the columns are {_listed(columns)}"
    return f"{{{inner}}} names no column{hint} (for literal text write {{{{{inner}}}}})"


def _listed(columns: Collection[str]) -> str:
    names = list(columns)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
