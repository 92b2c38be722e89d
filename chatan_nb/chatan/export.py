"""Out of the table: pandas, Hugging Face datasets, and files."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast, get_args

from chatan.export_text import json_texts, write_csv, write_json, write_jsonl
from chatan.schema.nearest import suggestion

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import pyarrow as pa

Format = Literal["parquet", "csv", "json", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The table as a DataFrame, its columns in order, its index a ``RangeIndex``.

    Integers stay integers: without nulls ``int64``, with nulls ``Int64``; so ``bool`` and
    ``boolean``. Text is pandas' default string type (it shares the table's memory where that
    is Arrow's), timestamps are ``datetime64``, dictionaries are categories. Structures are
    dictionaries and lists; dates, decimals and bytes are Python objects.

    >>> import pyarrow as pa
    >>> to_pandas(pa.table({"n": [1, None], "tags": [["a"], []]})).dtypes.astype(str).to_list()
    ['Int64', 'object']
    """
    import pandas as pd

    columns = {name: _series(table[name]) for name in table.column_names}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def to_hf(table: pa.Table) -> datasets.Dataset:
    """The table as a Hugging Face dataset, sharing its memory.

    Raises
    ------
    ImportError
        If ``datasets`` is not installed.

    >>> import pyarrow as pa
    >>> to_hf(pa.table({"a": ["x"]}))[0]
    {'a': 'x'}
    """
    try:
        import datasets
        from datasets.table import InMemoryTable
    except ImportError:
        raise ImportError("Hugging Face datasets are missing: pip install datasets") from None
    # metadata of other libraries may name features that the columns no longer have
    return datasets.Dataset(InMemoryTable(table.replace_schema_metadata(None)))


def save(
    table: pa.Table,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    escape_formulas: bool = False,
) -> Path:
    """Write the table to a file, whole or not at all.

    It is written beside ``path`` under another name and then renamed: a crash, a full disk or
    an interrupt leaves what was there before. Missing folders are made, ``~`` is the home
    folder, a link is followed, and a file that is replaced hands on its permissions.

    Parameters
    ----------
    table
        What to write.
    path
        Where to. Its suffix says the format: ``.parquet``, ``.csv``, ``.json`` (an array of
        records) or ``.jsonl`` (a record a line).
    format
        The format, whatever the suffix.
    escape_formulas
        For csv: put an apostrophe before text and column names that begin with ``=``, ``+``,
        ``-``, ``@`` or a control character. Spreadsheets take such cells for formulas, and a
        formula can send the sheet's data elsewhere; models can be talked into writing one. Off
        by default, since programs that read the file would see the apostrophe.

    Returns
    -------
    The path of the file.

    Notes
    -----
    - parquet keeps every type, structures too.
    - csv (UTF-8): nulls are empty and text is always quoted, so ``""`` is not null to readers
      that look at quotes; pandas' does not, and takes both for missing. In a table of one
      column both are ``""``, as an empty line would be skipped. Structures are JSON text, in
      which NaN is null.
    - json, jsonl: NaN and infinities are null, decimals and durations (ISO 8601) text, bytes
      base64.
    - All but parquet: dates and times are ISO 8601 text.

    Raises
    ------
    ValueError
        If neither ``format`` nor the suffix names a format, or formulas are to be escaped in
        another than csv.
    OSError
        If the file cannot be written: ``IsADirectoryError`` where ``path`` is a folder.

    >>> import pyarrow as pa, tempfile
    >>> sums = pa.table({"sum": ["=1+1"]})
    >>> path = save(sums, f"{tempfile.mkdtemp()}/sums.csv", escape_formulas=True)
    >>> print(path.read_text().splitlines()[1])
    "'=1+1"
    """
    path = Path(path).expanduser()
    wanted = format_of(path, format)
    if escape_formulas and wanted != "csv":
        raise ValueError(f"escape_formulas is for csv: a {wanted} file holds no formulas")
    writers: dict[Format, Callable[[pa.Table, IO[bytes]], None]] = {
        "parquet": _write_parquet,
        "csv": partial(write_csv, escape_formulas=escape_formulas),
        "json": write_json,
        "jsonl": write_jsonl,
    }
    with _replacing(path) as file:
        writers[wanted](table, file)
    return path


def format_of(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """The format that ``save`` writes to ``path``: ``format``, or else what the suffix says.

    Raises
    ------
    ValueError
        If it is none of the four.

    >>> format_of("rows.CSV"), format_of("rows.txt", format="jsonl")
    ('csv', 'jsonl')
    """
    named = Path(path).suffix[1:] if format is None else format.removeprefix(".")
    for known in FORMATS:
        if named.lower() == known:
            return known
    listed = ", ".join(FORMATS)
    if not named:
        raise ValueError(
            f"{Path(path).name!r} has no suffix that names a format: add one, or format=, "
            f"of {listed}"
        )
    raise ValueError(
        f"{named!r} is no format to save in{suggestion(named, FORMATS)} (there are {listed})"
    )


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    import pandas as pd
    import pyarrow.types as pat

    kind = column.type
    if pat.is_nested(kind):
        # Arrow's own way gives numpy arrays for lists, inside structures too
        return pd.Series(column.to_pylist(), dtype=object)
    mapper: Any = None
    if column.null_count and pat.is_boolean(kind):
        mapper = {kind: pd.BooleanDtype()}.get
    elif column.null_count and pat.is_integer(kind):
        name = "UInt" if pat.is_unsigned_integer(kind) else "Int"
        mapper = {kind: pd.api.types.pandas_dtype(f"{name}{kind.bit_width}")}.get
    return cast("pd.Series[Any]", column.to_pandas(types_mapper=mapper))


def _write_parquet(table: pa.Table, file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for position, column in enumerate(table.schema):
        if _holds_empty_struct(column.type):
            # parquet has no structure without fields: all that is known of it is JSON
            texts = pa.array(json_texts(table.column(position)), pa.string())
            table = table.set_column(position, column.name, texts)
    pq.write_table(table, file, compression="zstd")


def _holds_empty_struct(kind: pa.DataType) -> bool:
    import pyarrow.types as pat

    inner = [kind.field(position).type for position in range(kind.num_fields)]
    return (pat.is_struct(kind) and not inner) or any(map(_holds_empty_struct, inner))


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, that takes the place of ``path`` once it is complete."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: add the name of a file to it")
    if target.exists() and not target.is_file():
        raise OSError(f"{str(path)!r} is a device or pipe: only files can be written whole")
    target.parent.mkdir(parents=True, exist_ok=True)
    # a short name: the full one may already be as long as the file system takes
    draft = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
