"""Request bodies as JSON, written in two parts: once for a column, and for each of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chatan.providers.base import ProviderError


@dataclass(frozen=True, slots=True)
class Shared:
    """What the requests of one column share on the wire; ``sent`` names the fields of its body."""

    start: bytes
    headers: Mapping[str, str] = field(repr=False)
    sent: frozenset[str]
    secrets: frozenset[str] = field(repr=False)


def body_start(fields: Mapping[str, Any]) -> bytes:
    """The JSON of what all requests of a column share, without its last brace.

    Raises ``ValueError`` for what JSON cannot hold.

    >>> body_start({"model": "m"})
    b'{"model":"m"'
    """
    import orjson

    try:
        return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)[:-1]
    except orjson.JSONEncodeError as error:
        raise ValueError(f"a parameter cannot be written as JSON: {error}") from None


def whole_body(start: bytes, fields: Mapping[str, Any]) -> bytes:
    """The JSON of one request: what ``body_start`` gave, and the fields of this cell.

    Raises ``ProviderError`` ("bad_request", cell) for text that no encoding can store.

    >>> whole_body(b'{"model":"m"', {"messages": []})
    b'{"model":"m","messages":[]}'
    """
    import orjson

    try:
        return b"%b,%b" % (start, orjson.dumps(fields)[1:])
    except orjson.JSONEncodeError:
        raise ProviderError(
            "the prompt holds half a character (a lone surrogate), which cannot be sent: "
            "replace it in the column it comes from",
            kind="bad_request",
            scope="cell",
        ) from None
