"""Samplers that depend on another column of the row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatan.schema.choices import Choice
from chatan.schema.distributions import Distribution, is_frozen_distribution
from chatan.schema.randomness import key_of, words
from chatan.schema.rows import Rows, Stream
from chatan.schema.sampling import Inputs, SampleFunction, Transform
from chatan.schema.values import common_type, concatenated

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


class By(SampleFunction):
    """For each value of ``column`` a sampler of its own; ``default`` for values not named."""

    def __init__(self, column: Any, entries: Any, default: Any = ...) -> None:
        self.column = column
        self._entries = entries
        named = entries if isinstance(entries, Mapping) else {}
        self._samplers = {value: _as_sampler(entry) for value, entry in named.items()}
        self._default = None if default is ... else _as_sampler(default)
        inner = [need for _, sampler in self._branches() for need in sampler.needs]
        self.needs = tuple(dict.fromkeys([column, *inner] if isinstance(column, str) else inner))

    def faults(self) -> list[str]:
        import pyarrow as pa

        if not isinstance(self.column, str):
            return [f"sample.by takes the name of a column first, not {self.column!r}"]
        if not self._samplers:
            wanted = "{value: sampler, ...}, at least one entry"
            return [f"sample.by({self.column!r}, ...) takes {wanted}, not {self._entries!r}"]
        faults = [
            f"{name}: {fault}" for name, sampler in self._branches() for fault in sampler.faults()
        ]
        if faults:
            return faults
        (first, one), *others = [(name, each.arrow_type()) for name, each in self._branches()]
        for name, other in others:
            try:
                one = common_type([one, other])
            except pa.ArrowException:
                clash = f"{first} ({one}) and {name} ({other}) cannot stand in one column"
                return [f"{clash}; write all as text"]
        return []

    def missing(self, parent_values: Iterable[Any]) -> list[Any]:
        """Those of the parent's values that have no entry here, where there is no default."""
        if self._default is not None:
            return []
        unknown = (value for value in parent_values if self._sampler(value) is None)
        return list({repr(value): value for value in unknown}.values())

    def values(self) -> list[Any] | None:
        found: list[Any] = []
        for _, sampler in self._branches():
            values = sampler.values()
            if values is None:
                return None
            found += values
        return found

    def arrow_type(self) -> pa.DataType:
        return self._type

    @cached_property
    def _type(self) -> pa.DataType:
        return common_type(sampler.arrow_type() for _, sampler in self._branches())

    def draw(self, rows: Rows, stream: Stream, inputs: Inputs) -> pa.Array:
        import numpy as np

        return self.pick(rows, np.arange(len(rows)), stream, inputs)

    def pick(
        self, rows: Rows, chosen: npt.NDArray[np.int64], stream: Stream, inputs: Inputs
    ) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        parent = inputs[self.column]
        if pa.types.is_nested(parent.type):
            raise ValueError(f"sample.by looks up single values; {self.column!r} is {parent.type}")
        if pa.types.is_dictionary(parent.type):
            parent = parent.dictionary_decode()
        encoded = parent.take(pa.array(chosen)).dictionary_encode(null_encoding="encode")
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        drawn_words = words(key_of(stream.seed, stream.column), rows)[chosen]
        drawn = []
        for code, here in zip(present.tolist(), np.split(order, starts)[1:], strict=True):
            value = encoded.dictionary[code].as_py()
            sampler = self._sampler(value)
            if sampler is None:
                raise ValueError(
                    f"sample.by({self.column!r}, ...) has no entry for {value!r}; "
                    "add one, or default=..."
                )
            # one draw of words serves all that are made of nothing else
            drawn.append(
                sampler.transform(drawn_words[here])
                if isinstance(sampler, Transform)
                else sampler.pick(rows, chosen[here], stream, inputs)
            )
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return concatenated([pa.array([], self._type), *drawn]).take(pa.array(back))

    def _branches(self) -> list[tuple[str, SampleFunction]]:
        named = [(f"for {value!r}", sampler) for value, sampler in self._samplers.items()]
        return named if self._default is None else [*named, ("the default", self._default)]

    def _sampler(self, value: Any) -> SampleFunction | None:
        try:
            return self._samplers.get(value, self._default)
        except TypeError:  # a list or a dictionary, which no entry can name
            return self._default


def _as_sampler(entry: Any) -> SampleFunction:
    if isinstance(entry, SampleFunction):
        return entry
    if is_frozen_distribution(entry):
        return Distribution(entry)
    return Choice(entry if isinstance(entry, list | tuple | range | Mapping) else [entry])
