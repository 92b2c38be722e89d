"""Samplers of listed values, equally likely or weighted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatan.schema.randomness import below, unit
from chatan.schema.sampling import Transform
from chatan.schema.values import array_of, as_list, number_faults

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from chatan.schema.randomness import Words


class Choice(Transform):
    """One of the values, each as likely as its weight says; without weights all alike."""

    def __init__(self, values: Any, weights: Any = None) -> None:
        if isinstance(values, Mapping):
            values, weights = list(values), list(values.values())
        self._given = values
        self._values = as_list(values)
        self._is_weighted = weights is not None
        self._weights = as_list(weights)

    def faults(self) -> list[str]:
        if self._values is None:
            return [_unlisted(self._given)]
        if not self._values:
            return ["there is nothing to choose from; write at least one value"]
        faults = self._weight_faults() if self._is_weighted else []
        try:
            array_of(self._values)
        except ValueError as error:
            faults.append(str(error))
        return faults

    def values(self) -> list[Any] | None:
        if self._values is None or self._weights is None:
            return self._values
        pairs = zip(self._values, self._weights, strict=True)
        return [value for value, weight in pairs if weight > 0]

    def transform(self, words: Words) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        if self._weights is None:
            index = below(words[:, 0], len(self._array))
        else:
            index = np.searchsorted(self._shares, unit(words[:, 0]), side="right")
        return self._array.take(pa.array(index))

    def _weight_faults(self) -> list[str]:
        if self._weights is None:
            return ["the weights are no list of numbers; write one number for each value"]
        if len(self._weights) != len(self._values or ()):
            return [f"{len(self._weights)} weights for {len(self._values or ())} values"]
        faults = []
        for value, weight in zip(self._values or (), self._weights, strict=True):
            wrong = number_faults(f"the weight of {value!r}", weight)
            if not wrong and weight < 0:
                wrong = [f"the weight of {value!r} is {weight}; write 0 or more"]
            faults += wrong
        if not faults and not any(self._weights):
            faults.append("all weights are 0; write at least one above 0")
        return faults

    @cached_property
    def _array(self) -> pa.Array:
        return array_of(self._values or ())

    @cached_property
    def _shares(self) -> npt.NDArray[np.float64]:
        """Where each value's part of [0, 1) ends."""
        import numpy as np

        weights = np.array(self._weights, np.float64)
        ends = np.cumsum(weights / weights.max())
        # the last that has a weight ends at 1, whatever rounding made of the sum
        return np.where(ends >= ends[-1], 1.0, ends / ends[-1])


class Weighted(Choice):
    """A choice that must have weights."""

    def faults(self) -> list[str]:
        if not self._is_weighted:
            return ["there are no weights; write {value: weight, ...}, or values and weights"]
        return super().faults()


def _unlisted(values: Any) -> str:
    if isinstance(values, str):
        return f"{values!r} is a text, not a list; write [{values!r}]"
    if isinstance(values, set | frozenset):
        return "a set has no order, so its draws would not repeat; write sorted(...) or a list"
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        return "a table is no list of values; write sample.from_dataset(data, column)"
    return f"{values!r} is no list of values; write [first, second, ...]"
