"""Samplers that a user writes as a function."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from chatan.schema.randomness import key_of
from chatan.schema.rows import Rows, Stream
from chatan.schema.sampling import Inputs, SampleFunction
from chatan.schema.values import array_of, as_list, concatenated

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_BLOCK = 1024
_BLOCKS_HELD = 8


class Function(SampleFunction):
    """Values that ``function(rng, size)`` gives.

    What a function draws for one row may depend on how many it draws, so it is always asked
    for whole blocks of rows, at the same boundaries. Rows with identities are asked for one by
    one: their neighbours may change.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._held: dict[tuple[Stream, int], pa.Array] = {}

    def faults(self) -> list[str]:
        hint = "write sample.function(lambda rng, size: rng.normal(size=size))"
        if not callable(self._function):
            return [f"{self._function!r} is no function; {hint}"]
        try:
            inspect.signature(self._function).bind(None, _BLOCK)
        except TypeError:
            return [f"the function cannot be called with a generator and a size; {hint}"]
        except ValueError:  # a builtin without a readable signature may well take them
            pass
        return []

    def arrow_type(self) -> pa.DataType:
        import pyarrow as pa

        return pa.null()

    def draw(self, rows: Rows, stream: Stream, inputs: Inputs) -> pa.Array:
        del inputs
        if rows.identities is not None and len(rows):
            return concatenated(
                [self._called(stream, 2, identity, 1) for identity in rows.identities.tolist()]
            )
        first, last = rows.start // _BLOCK, max(rows.start, rows.stop - 1) // _BLOCK
        blocks = concatenated([self._block(stream, number) for number in range(first, last + 1)])
        return blocks.slice(rows.start - first * _BLOCK, len(rows))

    def pick(
        self, rows: Rows, chosen: npt.NDArray[np.int64], stream: Stream, inputs: Inputs
    ) -> pa.Array:
        import pyarrow as pa

        return self.draw(rows, stream, inputs).take(pa.array(chosen))

    def _block(self, stream: Stream, number: int) -> pa.Array:
        """A whole block; the last few are held, for tables that are filled row by row."""
        held = self._held
        if (stream, number) not in held:
            kept = dict(list(held.items())[1 - _BLOCKS_HELD :])
            # put in place as a whole: other threads may be reading
            held = {**kept, (stream, number): self._called(stream, 1, number, _BLOCK)}
            self._held = held
        return held[stream, number]

    def _called(self, stream: Stream, kind: int, number: int, size: int) -> pa.Array:
        """What the function gives with the generator of this block, or of this one row."""
        import numpy as np

        # the function may draw as much as it likes: the two low words of the counter are its own
        counter = kind << 192 | number << 128
        generator = np.random.Philox(key=key_of(stream.seed, stream.column), counter=counter)
        given = self._function(np.random.Generator(generator), size)
        drawn = as_list(given)
        if drawn is None or len(drawn) != size:
            what = repr(given) if drawn is None else f"{len(drawn)} values"
            raise ValueError(
                f"a function of sample.function gave {what} where {size} were asked for; "
                "draw with its size, as in rng.normal(size=size)"
            )
        return array_of(drawn)
