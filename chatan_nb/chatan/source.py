"""Rows that a user brought: as Arrow columns, by what names they go, and given back with more."""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chatan import export
from chatan.schema.columns import FunctionColumn, PromptColumn, SourceColumn, as_column
from chatan.schema.graph import Schema, SchemaError
from chatan.schema.nearest import suggestion
from chatan.schema.sources import Source as SourceData

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from chatan.engine.table import Table


@dataclass(frozen=True, eq=False)
class SourceRows:
    """The rows of ``chatan.augment``: the user's ``data``, the same as an Arrow ``table``, and
    the column that names them (``None``: their whole content does).
    """

    data: Any
    table: pa.Table
    key: str | None

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def schema_with(self, columns: Mapping[str, Any], when: Callable[..., Any] | None) -> Schema:
        """A schema of the user's columns and new ones, which are skipped where ``when`` is false.

        Raises
        ------
        SchemaError
            With all that is wrong, a new column in the place of one that is there included.
        """
        if not columns:
            raise SchemaError(["there is nothing to add: write at least one column, {'name': ...}"])
        faults = [
            f"column {name!r}: the data has a column of this name already; choose another"
            for name in columns
            if name in self.table.column_names
        ]
        given = {
            name: SourceColumn(self.table.column(name).combine_chunks())
            for name in self.table.column_names
        }
        added = {}
        for name, value in columns.items():
            try:
                column = as_column(value)
            except TypeError as error:
                faults.append(f"column {name!r}: {error}")
                continue
            if when is not None and isinstance(column, PromptColumn | FunctionColumn):
                column = replace(column, when=column.when or when)
            added[name] = column
        if faults:
            raise SchemaError(faults)
        return Schema({**given, **added})

    @functools.cached_property
    def _identities(self) -> npt.NDArray[np.uint64]:
        import numpy as np
        import orjson

        seen: Counter[bytes] = Counter()
        names = []
        rows = self.table if self.key is None else self.table.select([self.key])
        for batch in rows.to_batches(max_chunksize=65_536):
            for row in batch.to_pylist():
                content = orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS)
                seen[content] += 1
                named = hashlib.blake2b(b"%d:%b" % (seen[content], content), digest_size=8)
                names.append(int.from_bytes(named.digest(), "little"))
        return np.array(names, dtype=np.uint64)

    def identities(self) -> npt.NDArray[np.uint64]:
        """What names each row: its key or content, and which occurrence of that it is."""
        return self._identities

    def with_columns_pandas(self, rows: int, table: Table) -> pd.DataFrame:
        """The first rows as the user gave them, index and types included, and the new columns."""
        import pandas as pd

        added = export.to_pandas(table.arrow(rows, self._added(table)))
        if not isinstance(self.data, pd.DataFrame):
            return pd.concat([export.to_pandas(self.table.slice(0, rows)), added], axis=1)
        held = self.data.iloc[:rows]
        return pd.concat([held, added.set_axis(held.index)], axis=1)

    def with_columns_hf(self, rows: int, table: Table) -> datasets.Dataset:
        """The first rows as a Hugging Face dataset, the user's own features included."""
        import datasets

        if not isinstance(self.data, datasets.Dataset):
            return export.to_hf(table.arrow(rows))
        added = export.to_hf(table.arrow(rows, self._added(table)))
        return datasets.concatenate_datasets([self.data.select(range(rows)), added], axis=1)

    def _added(self, table: Table) -> list[str]:
        return [name for name in table.columns if name not in self.table.column_names]


def take_in(data: Any, key: str | None = None) -> SourceRows:
    """The source for a DataFrame, Hugging Face dataset, Arrow table or plain lists.

    Raises
    ------
    TypeError
        If ``data`` is none of these.
    SchemaError
        If column names repeat, or ``key`` is no column.
    """
    import pyarrow as pa

    given = SourceData(data)
    try:
        names = given.names
    except ValueError as error:
        raise SchemaError([str(error)]) from None
    texts = list(map(str, names))
    repeated = [name for name, times in Counter(texts).items() if times > 1]
    if repeated:
        raise SchemaError([f"the data has more than one column {name!r}" for name in repeated])
    key = None if key is None else str(key)
    if key is not None and key not in texts:
        raise SchemaError([f"key={key!r} is no column of the data{suggestion(key, texts)}"])
    if hasattr(data, "iloc"):
        data = data.copy(deep=False)  # columns that the user adds to it later are not of this run
    return SourceRows(data, pa.table({str(name): _column(given, name) for name in names}), key)


def _column(given: SourceData, name: Any) -> pa.ChunkedArray:
    """A column of the data; as text where its values have no type in common."""
    import pyarrow as pa

    try:
        column = given.column(name)
    except ValueError:
        values = [None if _is_missing(value) else str(value) for value in given.raw(name)]
        column = pa.chunked_array([pa.array(values, type=pa.string())])
    return column


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or type(value).__name__ in {"NAType", "NaTType"}
