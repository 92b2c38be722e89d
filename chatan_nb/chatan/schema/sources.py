"""Tables that users bring, of whatever kind, as Arrow columns; and a digest of what they hold."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatan.schema.nearest import suggestion
from chatan.schema.values import array_of, as_list

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK = 65_536


class Source:
    """A pandas DataFrame, Hugging Face dataset, Arrow table, dict of lists or list of dicts.

    Nothing is read before it is asked for; a column is read once, and then stays as it was.
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._columns: dict[Any, pa.ChunkedArray] = {}

    def faults(self, column: Any) -> list[str]:
        """What is wrong with the data, or with drawing this column of it."""
        try:
            names = [name for name, _ in self._given]
            times = names.count(column) if isinstance(column, Hashable) else 0
            if times == 0:
                known = [name for name in names if isinstance(name, str)]
                hint = suggestion(column, known) if isinstance(column, str) else ""
                listed = ", ".join(map(repr, names[:8])) + ", ..." * (len(names) > 8)
                return [f"the data has no column {column!r}{hint or f'; it has {listed or None}'}"]
            if times > 1:
                return [f"the data has {times} columns named {column!r}; rename one"]
            if len(self.column(column)) == 0:
                return ["the data has no rows; give at least one"]
        except (TypeError, ValueError) as error:
            return [str(error)]
        return []

    @property
    def names(self) -> list[Any]:
        """The names of the columns, in order. Raises ``ValueError`` for what is no table."""
        return [name for name, _ in self._given]

    def raw(self, name: Any) -> Any:
        """A column as the data has it."""
        return dict(self._given)[name]

    def column(self, name: Any) -> pa.ChunkedArray:
        """A column. Raises ``ValueError`` if Arrow cannot hold its values."""
        if name not in self._columns:
            self._columns[name] = _as_arrow(name, self.raw(name))
        return self._columns[name]

    @cached_property
    def digest(self) -> str:
        """Says what the columns are named and what they hold: equal tables have equal digests."""
        digest = hashlib.blake2b(digest_size=16)
        for name, _ in self._given:
            digest.update(ascii(name).encode())
            try:
                digest.update(_digest(self.column(name)))
            except ValueError:  # a column that Arrow cannot hold, and that nobody draws
                digest.update(b"unreadable")
        return digest.hexdigest()

    @cached_property
    def _given(self) -> list[tuple[Any, Any]]:
        return _columns_of(self._data)


def _columns_of(data: Any) -> list[tuple[Any, Any]]:
    """The columns by name, as the data has them."""
    columns = list(_read(data))
    lengths = {name: len(column) for name, column in columns}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ValueError(f"the columns of the data are not of one length: {told}")
    return columns


def _read(data: Any) -> Iterator[tuple[Any, Any]]:
    import pyarrow as pa

    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        yield from ((name, data.iloc[:, place]) for place, name in enumerate(data.columns))
    elif type(data).__module__.startswith("datasets."):
        yield from _read_hugging_face(data)
    elif hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        table = pa.table(data)
        yield from zip(table.column_names, table.columns, strict=True)
    elif isinstance(data, Mapping):
        for name, given in data.items():
            values = as_list(given)
            if values is None:
                raise TypeError(f"column {name!r} of the data is {given!r}; write a list")
            yield name, values
    elif isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        yield from ((name, [row.get(name) for row in data]) for name in names)
    else:
        raise TypeError(
            f"data of type {type(data).__name__} is no table; give a DataFrame, a Hugging Face "
            "dataset, an Arrow table, a dict of lists or a list of dicts, with at least one row"
        )


def _read_hugging_face(data: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, Mapping):
        splits = list(data)
        raise TypeError(f"the data has splits: {splits}; give one of them, data[{splits[0]!r}]")
    if not hasattr(data, "with_format") or not hasattr(data, "__len__"):
        raise TypeError(
            f"data of type {type(data).__name__} can only be read from start to end; "
            "give a datasets.Dataset"
        )
    table = data.with_format("arrow")[:]
    yield from zip(table.column_names, table.columns, strict=True)


def _as_arrow(name: Any, given: Any) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        if isinstance(given, list):
            given = array_of(given)
        elif not isinstance(given, pa.ChunkedArray):
            given = pa.array(given, from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"column {name!r} of the data: {error}; make it all text") from None
    column = given if isinstance(given, pa.ChunkedArray) else pa.chunked_array([given])
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _digest(column: pa.ChunkedArray) -> bytes:
    """Of the values alone, however Arrow lays them out: chunks, offsets, what nulls hide."""
    kind = column.type.value_type if _is_dictionary(column.type) else column.type
    parts = [hashlib.blake2b(digest_size=16) for _ in range(3)]
    for chunk in column.chunks:
        for start in range(0, len(chunk), _CHUNK):
            for part, content in zip(parts, _contents(chunk.slice(start, _CHUNK)), strict=True):
                part.update(content)
    return str(kind).removeprefix("large_").encode() + b"".join(part.digest() for part in parts)


def _contents(chunk: pa.Array) -> tuple[Any, Any, Any]:
    """Which values are present, their lengths, and the values, as contiguous memory."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    mask = chunk.is_valid().to_numpy(zero_copy_only=False)
    present = chunk.drop_null()
    kind, of = present.type, pa.types
    if of.is_string(kind) or of.is_large_string(kind):
        octets = present.cast(pa.large_binary())
        return mask, np.ascontiguousarray(pc.binary_length(octets)), b"".join(octets.to_pylist())
    if of.is_temporal(kind) and not of.is_interval(kind):
        present = present.view(f"int{kind.bit_width}")
    if of.is_integer(present.type) or of.is_floating(present.type) or of.is_boolean(present.type):
        return mask, b"", np.ascontiguousarray(present.to_numpy(zero_copy_only=False))
    return mask, b"", "".join(f"{value!a}\n" for value in present.to_pylist()).encode()


def _is_dictionary(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_dictionary(kind))
