"""Samplers of identifiers: UUIDs, version 4, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatan.schema.randomness import key_of, words
from chatan.schema.rows import Rows, Stream
from chatan.schema.sampling import Inputs, SampleFunction
from chatan.schema.values import texts_of

if TYPE_CHECKING:
    import pyarrow as pa


class Uuid(SampleFunction):
    """Random UUIDs: others for each dataset name, so that tables can be put together."""

    def faults(self) -> list[str]:
        return []

    def draw(self, rows: Rows, stream: Stream, inputs: Inputs) -> pa.Array:
        import numpy as np

        del inputs
        bits = words(key_of(stream.seed, stream.dataset, stream.column), rows)[:, :2]
        version = bits[:, 0] & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
        variant = bits[:, 1] & np.uint64(2**62 - 1) | np.uint64(2**63)
        octets = np.stack([version, variant], axis=1).astype(">u8").view(np.uint8)
        pairs = np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)
        digits = pairs[octets].view(np.uint8)
        text = np.full((len(rows), 36), ord("-"), np.uint8)
        for start, stop, first in ((0, 8, 0), (9, 13, 8), (14, 18, 12), (19, 23, 16), (24, 36, 20)):
            text[:, start:stop] = digits[:, first : first + stop - start]
        return texts_of(text)
