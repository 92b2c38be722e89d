"""JSON schemas, read: which fields their values have; and rooted in an object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_UNFOLDED = ("anyOf", "oneOf", "allOf")
_OBJECT_WORDS = {"properties", "patternProperties", "additionalProperties", "required"}
_TYPE_WORDS = {"type", "enum", "const", "$ref", *_UNFOLDED, *_OBJECT_WORDS}
_MAPS_OF_SCHEMAS = {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
_DATA = {"enum", "const", "default", "examples"}
_OF_THE_DOCUMENT = ("$schema", "$id", "$defs", "definitions")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of an object: those that are named, and whether it may have others."""

    names: tuple[str, ...]
    open: bool


def fields_at(schema: Mapping[str, Any], path: Sequence[str] = ()) -> Fields | None:
    """The fields of the values at ``path``; ``None`` where no value is an object.

    >>> fields_at({"properties": {"age": {"type": "integer"}}})
    Fields(names=('age',), open=False)
    """
    parts = _branches([schema], schema)
    for name in path:
        parts = _branches(_under(parts, name), schema)
    unknown = any(_TYPE_WORDS.isdisjoint(part) for part in parts)
    objects = [part for part in parts if _may_be_object(part)]
    if not objects and not unknown:
        return None
    names = tuple(dict.fromkeys(name for part in objects for name in part.get("properties", ())))
    extra = [part.get("additionalProperties") for part in objects]
    others = any(value not in (None, False) for value in extra)
    others = others or any("patternProperties" in part for part in objects)
    return Fields(names, open=unknown or others or (not names and False not in extra))


def rooted_in_object(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema with an object at its root, and whether it had to be wrapped for that.

    What is no object becomes the field ``value`` of one; references still lead where they did.

    Raises
    ------
    ValueError
        If the schema only refers to itself, or to what is not there.

    >>> rooted_in_object({"type": "integer"})[0]["properties"]
    {'value': {'type': 'integer'}}
    """
    root = dict(schema)
    followed = set()
    while (reference := root.pop("$ref", None)) is not None:
        target = _target(reference, schema)
        if reference in followed or not isinstance(target, Mapping):
            raise ValueError(f"the JSON schema's $ref {reference!r} leads nowhere")
        followed.add(reference)
        root = {**target, **root}
    if root.get("type", "object" if "properties" in root else None) == "object":
        return {**root, "type": "object"}, False
    value = _moved(root)
    hoisted = {word: value.pop(word) for word in _OF_THE_DOCUMENT if word in value}
    wrapper = {
        "type": "object",
        "properties": {"value": value},
        "required": ["value"],
        "additionalProperties": False,
    }
    return wrapper | hoisted, True


def _branches(parts: Iterable[Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts with references followed and alternatives unfolded, each once."""
    found: list[Mapping[str, Any]] = []
    waiting = list(parts)
    while waiting:
        part = waiting.pop(0)
        if part is True:
            part = {}
        if not isinstance(part, Mapping) or any(part is known for known in found):
            continue
        found.append(part)
        inner = [choice for word in _UNFOLDED for choice in part.get(word, ())]
        if "$ref" in part:
            target = _target(part["$ref"], root)
            inner.insert(0, {} if target is None else target)
        waiting[:0] = inner
    return found


def _under(parts: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """The schemas of the field ``name``; one that allows anything where none is given."""
    found = []
    for part in parts:
        if name in part.get("properties", ()):
            found.append(part["properties"][name])
        elif isinstance(part.get("additionalProperties"), Mapping):
            found.append(part["additionalProperties"])
    return found or [{}]


def _may_be_object(part: Mapping[str, Any]) -> bool:
    if "type" in part:
        return "object" in part["type"]  # one word, or a list of them
    return not _OBJECT_WORDS.isdisjoint(part)


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the document leads to; ``None`` for nothing, or another document."""
    path, *steps = str(reference).split("/")
    if path != "#":
        return None
    target: Any = root
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, Mapping) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        else:
            return None
    return target


def _moved(node: Any) -> Any:
    """A schema whose references from the root lead to where the root now lies."""
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    moved: dict[str, Any] = {}
    for word, value in node.items():
        if word == "$ref" and isinstance(value, str):
            stays = value.startswith(("#/$defs/", "#/definitions/")) or value[:2] not in ("#", "#/")
            moved[word] = value if stays else "#/properties/value" + value[1:]
        elif word in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
            moved[word] = {name: _moved(schema) for name, schema in value.items()}
        else:
            moved[word] = value if word in _DATA else _moved(value)
    return moved
