"""What the answers to a prompt must look like, and whether one does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import isfinite
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from chatan.schema.nearest import suggestion
from chatan.schema.shapes import fields_at, rooted_in_object

_FENCE = re.compile(r"```\w*[ \t]*\r?\n(.*?)\s*```", re.DOTALL)
_QUOTED = re.compile(r"""(["'`]|“|‘)(.*)(\1|”|’)""", re.DOTALL)  # noqa: RUF001 - models write these
_LONG_NUMBER = re.compile(r"\d{19}")
_DEEP = 200  # a little less than orjson writes
_SCHEMA_WORDS = {
    *("type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf", "not", "if"),
    *("properties", "required", "additionalProperties", "patternProperties"),
    *("items", "prefixItems", "pattern", "format", "minimum", "maximum"),
}
_WHAT_TO_WRITE = (
    "write a pydantic model class, a JSON schema (a dict), a list of choices such as "
    '["yes", "no"], or a Python type such as list[str]'
)


class AnswerFault(ValueError):
    """A model's answer that does not fit; the message says where and why, in one line."""


@dataclass(frozen=True)
class Answer:
    """What answers must look like; made by ``answer``.

    Attributes
    ----------
    name
        For the service: letters, digits, ``_`` and ``-``, at most 64.
    json_schema
        For the service: its root is always an object, so anything else stands in it as
        ``{"value": ...}`` (``wrapped``).
    fields
        The names of a structured value's fields; ``None`` where no value is an object.
    shape
        The JSON schema of the values that ``parse`` gives.
    python_type
        What pydantic validates with; ``None`` where ``shape`` decides.
    """

    name: str
    json_schema: dict[str, Any] = field(hash=False)
    fields: tuple[str, ...] | None
    shape: dict[str, Any] = field(hash=False, repr=False)
    wrapped: bool = False
    python_type: Any = field(default=None, hash=False, repr=False)

    def parse(self, text: str) -> Any:
        """The value of a model's answer: plain JSON (dict, list, str, int, float, bool, None).

        White space around the JSON and one code fence are taken off, and a bare value is read
        where ``{"value": ...}`` was asked for. A choice may also be the bare word, in quotes or
        not. Nothing is searched for in prose. Of equal keys the last one holds. Fields that
        are declared and may be left out are ``None`` where they were.

        Raises
        ------
        AnswerFault
            If the text is no JSON, does not fit, or holds what no column can: an integer past
            64 bits, NaN, half a surrogate pair.

        >>> answer(["yes", "no"]).parse(' "yes" ')
        'yes'
        """
        text = text.strip()
        if fence := _FENCE.fullmatch(text):
            text = fence[1].strip()
        try:
            value = self._fitting(self._unwrapped(_decoded(text)))
            if isinstance(value, dict) and self.fields:
                value = dict.fromkeys(self.fields) | value
            return value
        except AnswerFault:
            if not self._words:
                raise
        word = text
        if word not in self._words and (quoted := _QUOTED.fullmatch(text)):
            word = quoted[2].strip()
        if word not in self._words:
            known = _excerpt(", ".join(map(repr, self._choices)), 160)
            raise AnswerFault(f"{_excerpt(text)} is none of the choices {known}")
        return self._fitting(self._words[word])

    def field_fault(self, path: Sequence[str]) -> str | None:
        """What is wrong with a reference to the field at ``path``; ``None`` if nothing is.

        >>> person = answer({"properties": {"city": {"type": "string"}}})
        >>> person.field_fault(("ctiy",))
        "its answers have no field 'ctiy'; did you mean 'city'?"
        """
        owner = "its answers have"
        for position, name in enumerate(path):
            known = fields_at(self.shape, path[:position])
            if known is None or not (known.names or known.open):
                return f"{owner} no fields, so no {name!r}"
            if not known.open and name not in known.names:
                hint = suggestion(name, known.names) or f"; there are {', '.join(known.names)}"
                return f"{owner} no field {name!r}{hint}"
            owner = f"{'.'.join(path[: position + 1])!r} has"
        return None

    def _unwrapped(self, value: Any) -> Any:
        if self.wrapped and isinstance(value, dict) and value.keys() == {"value"}:
            return value["value"]
        return value

    def _fitting(self, value: Any) -> Any:
        """``value`` as it is stored, if it fits."""
        if self.python_type is not None:
            return _validated(self._adapter, value)
        try:
            faults = [(e.instance_path, e.message) for e in self._validator.iter_errors(value)]
        except ValueError as error:  # nested deeper than the validator goes
            raise AnswerFault(_excerpt(str(error))) from None
        if faults:
            raise _fault(faults)
        return value

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(self.python_type)

    @cached_property
    def _validator(self) -> Any:
        return _compiled(self.shape)

    @property
    def _choices(self) -> list[Any]:
        """The values there are to choose from; empty where there is no such list."""
        if "const" in self.shape:
            return [self.shape["const"]]
        of_type = [True, False] if self.shape.get("type") == "boolean" else []
        return list(self.shape.get("enum", of_type))

    @cached_property
    def _words(self) -> dict[str, Any]:
        """The choices by the bare words that stand for them."""
        import orjson

        written = {orjson.dumps(choice).decode(): choice for choice in self._choices}
        return written | {str(choice): choice for choice in self._choices}

    def __getstate__(self) -> dict[str, Any]:
        # compiled validators cannot be pickled: they stay behind and are made again
        return {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}


def answer(schema: Any) -> Answer:
    """What answers must look like, from whatever says so.

    Parameters
    ----------
    schema
        A pydantic model class (its validators run; the value is ``model_dump(mode="json")``);
        a JSON schema as a dictionary (``format`` is checked too; references must lead within
        it); a list of choices (all text, all numbers or all booleans: the value is the choice
        itself); or a type: ``int``, ``list[str]``, ``Literal``, an ``Enum``, a dataclass, a
        ``TypedDict``.

    Raises
    ------
    TypeError
        If ``schema`` is none of these.
    ValueError
        If it is a JSON schema or a list of choices with a fault in it.

    >>> answer(list[int]).parse('{"value": [1, 2]}')
    [1, 2]
    """
    if isinstance(schema, Mapping):
        return _of_json_schema(schema)
    if isinstance(schema, list | tuple):
        return _of_choices(schema)
    if isinstance(schema, set | frozenset):
        raise TypeError(f"the choices {schema!r} have no order as a set: write them as a list")
    cls = type(schema)
    marks = ("model_json_schema", "__dataclass_fields__")
    if isinstance(schema, Enum) or any(hasattr(cls, mark) for mark in marks):
        raise TypeError(f"schema is an instance of {cls.__name__}: write schema={cls.__name__}")
    if schema is None or isinstance(schema, str | FunctionType | BuiltinFunctionType | MethodType):
        raise TypeError(f"schema={schema!r} says nothing about answers: {_WHAT_TO_WRITE}")
    return _of_type(schema)


def _of_json_schema(schema: Mapping[str, Any]) -> Answer:
    import orjson

    try:
        # a copy: what the user does to theirs later must not change this one
        shape = orjson.loads(orjson.dumps(schema))
    except TypeError as error:
        hint = 'Python types are written by name in it, "string" for str'
        raise ValueError(f"the JSON schema is no JSON ({error}): {hint}") from None
    if _SCHEMA_WORDS.isdisjoint(shape):
        example = '{"type": "object", "properties": {"name": {"type": "string"}}}'
        raise ValueError(
            f"the JSON schema {_excerpt(str(shape))} asks for nothing: write {example}"
        )
    try:
        _compiled(shape)
    except ValueError as error:
        raise ValueError(f"the JSON schema is invalid: {_message(error)}") from None
    return _made(shape, shape)


def _of_choices(choices: Sequence[Any]) -> Answer:
    if not choices:
        raise ValueError('the list of choices is empty: write what may be answered, ["yes", "no"]')
    kinds = {_kind_of_choice(choice) for choice in choices}
    if len(kinds) > 1:
        raise ValueError(
            f"the choices {_excerpt(str(choices))} are of several types, a column holds one: "
            "write all as text"
        )
    if twice := [choice for i, choice in enumerate(choices) if choice in choices[:i]]:
        raise ValueError(f"the choice {twice[0]!r} stands there twice")
    kind = kinds.pop()
    if kind == "number" and all(isinstance(choice, int) for choice in choices):
        kind = "integer"
    shape = {"type": kind, "enum": list(choices)}
    return _made(shape, shape)


def _kind_of_choice(choice: Any) -> str:
    """The word of JSON schema for the type of a choice."""
    if isinstance(choice, bool):
        return "boolean"
    if isinstance(choice, str) and choice.strip():
        _refuse_unstorable(choice, ())
        return "string"
    if isinstance(choice, int | float):
        _refuse_unstorable(choice, ())
        return "number"
    hint = f"for a list of these write list[{choice.__name__}]" if isinstance(choice, type) else ""
    raise ValueError(
        f"{choice!r} is no choice a model can answer with: "
        f"{hint or 'write text, numbers or booleans'}"
    )


def _of_type(python_type: Any) -> Answer:
    from pydantic import PydanticUserError, TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(python_type)
        asked = adapter.json_schema(mode="validation", by_alias=True)
        shape = adapter.json_schema(mode="serialization", by_alias=False)
    except (PydanticUserError, NameError, TypeError) as error:
        raise TypeError(
            f"schema={python_type!r} is nothing an answer can be checked against "
            f"({_message(error)}): {_WHAT_TO_WRITE}"
        ) from None
    if _SCHEMA_WORDS.isdisjoint(asked):
        raise TypeError(f"schema={python_type!r} asks for nothing: {_WHAT_TO_WRITE}")
    return _made(asked, shape, python_type)


def _made(asked: dict[str, Any], shape: dict[str, Any], python_type: Any = None) -> Answer:
    json_schema, wrapped = rooted_in_object(asked)
    rooted = json_schema["properties"]["value"] if wrapped else json_schema
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", str(rooted.get("title", ""))).strip("_")[:64]
    known = fields_at(shape)
    return Answer(
        name=name or "answer",
        json_schema=json_schema,
        fields=None if known is None else known.names,
        shape=shape,
        wrapped=wrapped,
        python_type=python_type,
    )


def _compiled(shape: dict[str, Any]) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(shape, validate_formats=True, retriever=_refuse_document)


def _refuse_document(address: str) -> Any:
    # by itself the validator would fetch it from the network
    raise ValueError(f"write the schema at {address} into $defs: no other document is read")


def _validated(adapter: Any, value: Any) -> Any:
    """``value`` through pydantic's validation and back to plain JSON."""
    import orjson
    from pydantic import ValidationError

    try:
        validated = adapter.validate_json(orjson.dumps(value))
        plain = adapter.dump_python(validated, mode="json", by_alias=False, warnings=False)
    except ValidationError as error:
        raise _fault((e["loc"], _pydantic_message(e)) for e in error.errors()) from None
    except Exception as error:
        raise AnswerFault(
            f"a validator of the model raised {type(error).__name__}: {_excerpt(str(error))}"
        ) from error
    _refuse_unstorable(plain, ())
    return plain


def _pydantic_message(error: Mapping[str, Any]) -> str:
    given = error["input"]
    scalar = error["type"] != "missing" and not isinstance(given, dict | list)
    return f"{error['msg']}, not {_excerpt(repr(given))}" if scalar else str(error["msg"])


def _decoded(text: str) -> Any:
    """The JSON value that ``text`` is."""
    import json

    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        near = f", near {_excerpt(text[max(0, error.pos - 20) : error.pos + 20])}" if text else ""
        raise AnswerFault(f"no JSON: {error.msg} (character {error.pos + 1}{near})") from None
    if text.count("[") + text.count("{") > _DEEP:
        try:
            orjson.dumps(value)
        except TypeError:
            raise AnswerFault("the JSON is nested too deep to be stored") from None
    if _LONG_NUMBER.search(text):
        # orjson reads what is past 64 bits as a float, and so silently as another number
        json.loads(text, parse_int=lambda digits: _refuse_unstorable(int(digits[:25]), ()))
    return value


def _refuse_unstorable(value: Any, path: tuple[str | int, ...]) -> None:
    """Raise where plain JSON holds what no column can."""
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_unstorable(item, (*path, name))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _refuse_unstorable(item, (*path, position))
    elif isinstance(value, float) and not isfinite(value):
        raise _fault([(path, f"{value} is no number that JSON has")])
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _fault([(path, "an integer does not fit 64 bits: ask for it as text")])
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _fault([(path, "the text holds half a surrogate pair")]) from None


def _fault(faults: Iterable[tuple[Sequence[str | int], str]]) -> AnswerFault:
    """One fault that tells of up to three."""
    told = [f"{_place(path)}{_excerpt(message, 160)}" for path, message in faults]
    more = f" (and {len(told) - 3} more)" if len(told) > 3 else ""
    return AnswerFault("; ".join(told[:3]) + more)


def _place(path: Sequence[str | int]) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in path]
    return _excerpt("".join(steps).lstrip("."), 80) + ": " if steps else ""


def _message(error: Exception) -> str:
    """The first line of an error's message."""
    return _excerpt((str(error).splitlines() or [type(error).__name__])[0], 200)


def _excerpt(text: str, length: int = 60) -> str:
    """``text`` short and safe to show: models write control characters and megabytes."""
    start = text[:length] + ("..." if len(text) > length else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in start)
