"""JSON schemas as OpenAI's strict structured outputs take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_DROPPED = ("default", "discriminator")
"""What says nothing any more once every property is required."""

_UNCHECKED = ("minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties", "contains")
"""What the service refuses in a strict schema: the model is told in words instead."""

_LOOSE = ("allOf", "not", "if", "patternProperties", "prefixItems", "dependentRequired")
"""What the service refuses and words do not say as well."""


class _NotStrictError(Exception):
    """The schema allows what no strict one can."""


def response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The ``response_format`` that asks for an answer which fits ``schema``.

    It is strict (objects closed, every property required, recursively) where the schema
    allows that; a schema with objects of any fields is sent as it is, and not strict. A strict
    answer fits the given schema too, except for what only words tell the model: whoever reads
    the answer checks it.

    >>> made = response_format("qa", {"type": "object", "properties": {"a": {"type": "integer"}}})
    >>> made["json_schema"]["strict"], made["json_schema"]["schema"]["required"]
    (True, ['a'])
    """
    try:
        sent, strict = _strict(schema, schema), True
    except _NotStrictError:
        sent, strict = dict(schema), False
    wanted = {"name": name, "strict": strict, "schema": sent}
    return {"type": "json_schema", "json_schema": wanted}


def _strict(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or any(name in schema for name in _LOOSE):
        raise _NotStrictError
    made = {name: value for name, value in schema.items() if name not in _DROPPED}
    if "$ref" in made and len(made) > 1:  # a reference must stand alone: put what it means here
        reference = made.pop("$ref")
        return _strict({**_resolved(reference, root), **made}, root)
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    for name in ("$defs", "definitions", "properties"):
        if name in made:
            made[name] = {key: _strict(value, root) for key, value in made[name].items()}
    if "anyOf" in made:
        made["anyOf"] = [_strict(value, root) for value in made["anyOf"]]
    if "items" in made:
        made["items"] = _strict(made["items"], root)
    kinds = made.get("type", ())
    if "object" in ([kinds] if isinstance(kinds, str) else kinds) or "properties" in made:
        if made.get("additionalProperties", False) is not False or "properties" not in made:
            raise _NotStrictError
        made["additionalProperties"] = False
        made["required"] = list(made["properties"])
    elif not made.keys() & {"type", "$ref", "anyOf", "enum", "const"}:
        raise _NotStrictError  # any value
    return _in_words(made)


def _in_words(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with what the service does not check told in its description."""
    hints = {name: schema.pop(name) for name in _UNCHECKED if name in schema}
    if hints:
        told = json.dumps(hints, ensure_ascii=False)
        schema["description"] = " ".join(filter(None, [schema.get("description"), told]))
    return schema


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    target: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        try:
            target = target[step.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError):
            raise _NotStrictError from None
    if not isinstance(target, Mapping) or target is root:
        raise _NotStrictError
    return target
