"""The names of cells: the draw that a cell is, and the key of what is asked for it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import orjson

from chatan.providers.base import Call, Message, Provider

_DRAW = struct.Struct("<qQqq")


def draw_of(seed: int, identity: int, twin: int, sample: int) -> int:
    """The draw of a cell, 63 bits: the same for the same seed, row, twin and sample number.

    ``twin`` tells columns of a row that ask exactly the same apart, ``sample`` counts how
    often the cell was regenerated.
    """
    digest = hashlib.blake2b(_DRAW.pack(seed, identity, twin, sample), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def key_of(provider: Provider, call: Call, messages: Sequence[Message], draw: int) -> bytes:
    """The key of a cell: what is asked, of whom, and as which draw."""
    asked = [
        provider.kind,
        provider.base_url,
        call.model,
        dict(call.parameters),
        call.answer and dict(call.answer.schema),
        messages,
        draw,
    ]
    option = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.blake2b(
        orjson.dumps(asked, default=repr, option=option), digest_size=20
    ).digest()
