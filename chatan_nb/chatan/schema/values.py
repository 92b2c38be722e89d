"""Python values that users give, as Arrow arrays, and which of them cannot stand together."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


def as_list(values: Any) -> list[Any] | None:
    """The values of a list, tuple, range, array or series; ``None`` for what is none of them."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    is_table = hasattr(values, "columns") or hasattr(values, "column_names")
    if is_table or isinstance(values, str | bytes | Mapping | set | frozenset):
        return None
    return [plain(value) for value in values] if isinstance(values, Collection) else None


def plain(value: Any) -> Any:
    """The Python value of a numpy scalar; anything else as it is."""
    is_numpy = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_numpy else value


def array_of(values: Sequence[Any]) -> pa.Array:
    """The values as an Arrow array; whole and other numbers together become float64.

    Raises
    ------
    ValueError
        Naming the value that a column cannot hold, or two that cannot stand in one.
    """
    import pyarrow as pa

    # Arrow by itself would take a date for a datetime, and True for 1.0, without a word
    kinds: dict[Any, Any] = {}
    for value in values:
        if value is not None:
            kinds.setdefault((type(value), getattr(value, "tzinfo", None)), value)
    samples = list(kinds.values())
    try:
        if len(samples) > 1:
            common_type(pa.array([sample]).type for sample in samples)
        array = pa.array(values)
        array.validate(full=True)  # Arrow takes bytes among texts inside of lists, UTF-8 or not
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise ValueError(_fault(values, samples, error)) from None
    return array


def common_type(types: Iterable[pa.DataType]) -> pa.DataType:
    """The narrowest type that holds all of them. Raises ``pa.ArrowException`` if none does."""
    import pyarrow as pa

    schemas = [pa.schema([("value", type)]) for type in set(types)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def concatenated(arrays: Sequence[pa.Array]) -> pa.Array:
    """The arrays as one, of their common type."""
    import pyarrow as pa

    wanted = common_type(array.type for array in arrays)
    return pa.concat_arrays([array.cast(wanted) for array in arrays])


def texts_of(octets: npt.NDArray[np.uint8]) -> pa.Array:
    """Texts of one length, from their UTF-8: shape (texts, bytes), C-contiguous; not copied."""
    import numpy as np
    import pyarrow as pa

    count, length = octets.shape
    offsets = pa.array(np.arange(count + 1) * length).cast(pa.int32())
    return pa.StringArray.from_buffers(count, offsets.buffers()[1], pa.py_buffer(octets))


def number_faults(name: str, value: Any) -> list[str]:
    """What is wrong with a value that must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return [f"{name} is {value!r}; write a number"]
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    return [] if finite else [f"{name} is {value}; write a number that fits into 64 bits"]


def _fault(values: Sequence[Any], samples: Sequence[Any], error: Exception) -> str:
    """What is wrong with values that make no array; ``samples`` holds one of each type."""
    import pyarrow as pa

    for value in values:
        try:
            pa.array([value])
        except UnicodeError:
            return f"{value!r} holds half a character (a lone surrogate), which no file can store"
        except OverflowError:
            return f"{value!r} does not fit into 64 bits; write it as text"
        except (pa.ArrowException, TypeError, ValueError):
            kind = type(value).__name__
            return f"{value!r}, of type {kind}, cannot stand in a column; write text or numbers"
    for one, other in itertools.combinations(samples, 2):
        try:
            common_type(pa.array([value]).type for value in (one, other))
        except pa.ArrowException:
            return f"{one!r} and {other!r} cannot stand in one column; write all as text"
    return f"the values cannot stand in one column: {error}"
