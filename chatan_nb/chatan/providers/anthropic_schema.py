"""JSON schemas as Anthropic's structured outputs take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
}
_KEPT = ("type", "enum", "const", "title", "description")
_CHOICES = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}


def wire_schema(schema: Mapping[str, Any], path: str = "schema") -> dict[str, Any]:
    """``schema`` in the part of JSON Schema that the service compiles.

    Objects are closed (``additionalProperties`` is false). What the service does not check
    (``minimum``, ``pattern``, ``maxLength``, ...) is put into the description, where the model
    reads it; whoever reads the answer checks it against the whole schema.

    Raises ``ValueError`` naming the place where an object of any fields, or any value, would
    do: the service needs named fields.

    >>> wire_schema({"type": "integer", "minimum": 1})
    {'type': 'integer', 'description': '{"minimum": 1}'}
    """
    rest = dict(schema)
    wire: dict[str, Any] = {}
    if "$defs" in rest:
        definitions = rest.pop("$defs")
        wire["$defs"] = {name: wire_schema(each, name) for name, each in definitions.items()}
    if "$ref" in rest:
        return {**wire, "$ref": rest["$ref"]}
    if isinstance(rest.get("type"), list):
        rest = _one_of_the_types(rest)
    wire |= {name: rest.pop(name) for name in _KEPT if name in rest}
    for name, ours in _CHOICES.items():
        if name in rest:
            each = enumerate(rest.pop(name))
            wire[ours] = [wire_schema(choice, f"{path}.{name}[{i}]") for i, choice in each]
    if wire.keys() & {"enum", "const"}:
        wire.pop("type", None)
    elif wire.get("type") == "object":
        wire |= _closed_object(rest, path)
    elif wire.get("type") == "array":
        wire |= _array(rest, path)
    elif not wire.keys() & {"type", "anyOf", "allOf"}:
        raise ValueError(f"{path} takes any value, which Anthropic cannot: give it a type")
    elif rest.get("format") in _FORMATS:
        wire["format"] = rest.pop("format")
    return _with_hints(wire, rest)


def _one_of_the_types(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema with ``anyOf`` in the place of a list of types."""
    named: dict[str, Any] = {
        name: schema.pop(name) for name in ("title", "description") if name in schema
    }
    return {**named, "anyOf": [{**schema, "type": kind} for kind in schema["type"]]}


def _closed_object(rest: dict[str, Any], path: str) -> dict[str, Any]:
    others = rest.pop("additionalProperties", True)
    if "properties" not in rest and others is not False:
        raise ValueError(
            f"{path} takes an object of any fields, which Anthropic cannot: name its fields, or "
            "ask for a list of objects with a key and a value"
        )
    properties = rest.pop("properties", {}).items()
    fields = {name: wire_schema(field, f"{path}.{name}") for name, field in properties}
    closed = {"properties": fields, "additionalProperties": False}
    if "required" in rest:
        closed["required"] = list(rest.pop("required"))
    return closed


def _array(rest: dict[str, Any], path: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if "items" in rest:
        kept["items"] = wire_schema(rest.pop("items"), f"{path}[]")
    if rest.get("minItems") in (0, 1):
        kept["minItems"] = rest.pop("minItems")
    return kept


def _with_hints(wire: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """``wire`` with what is left over told to the model in words."""
    hints = {name: value for name, value in rest.items() if not name.startswith("$")}
    if hints:
        told = json.dumps(hints, ensure_ascii=False, default=str)
        wire["description"] = "\n\n".join(filter(None, [wire.get("description"), told]))
    return wire
