"""A table as text: csv, and JSON as an array or a record a line; by batches, in bounded memory."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 10_000
_BATCH_BYTES = 32_000_000

_FORMULA_STARTS = r"^([=+\-@\t\r\n\x00＝＋－＠])"  # noqa: RUF001 - spreadsheets take these too


def write_json(table: pa.Table, file: IO[bytes]) -> None:
    """Write the rows as an array of records."""
    before = b"[\n"
    for record in _records(table):
        file.write(before + record)
        before = b",\n"
    file.write(b"\n]\n" if len(table) else b"[]\n")


def write_jsonl(table: pa.Table, file: IO[bytes]) -> None:
    """Write the rows as records, one a line."""
    for record in _records(table):
        file.write(record + b"\n")


def write_csv(table: pa.Table, file: IO[bytes], *, escape_formulas: bool) -> None:
    """Write the rows as csv, with a header."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.array(table.column_names, pa.large_string())
    header = _quoted(_escaped(names) if escape_formulas else names).to_pylist()
    file.write(",".join(header).encode() + b"\n")
    # readers skip empty lines, and with them the row
    null = '""' if table.num_columns == 1 else ""
    for batch in _batches(table):
        cells = [_cells(column, escape_formulas) for column in batch.columns]
        lines = pc.binary_join_element_wise(
            *cells, _text(","), null_handling="replace", null_replacement=null
        )
        whole = pc.binary_join(pa.LargeListArray.from_arrays([0, len(lines)], lines), _text("\n"))
        file.write(whole[0].as_buffer())
        file.write(b"\n")


def json_texts(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """The values as JSON text; those that are one text in JSON without its quotes."""
    import orjson

    texts: list[str | None] = []
    for value in column.to_pylist():
        text = None if value is None else orjson.dumps(value, default=_plain).decode()
        texts.append(orjson.loads(text) if text and text[0] == '"' else text)
    return texts


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    row_bytes = table.nbytes // max(1, len(table)) + 1
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
    return (batch for batch in table.to_batches(max_chunksize=rows) if len(batch))


def _records(table: pa.Table) -> Iterator[bytes]:
    import orjson

    for batch in _batches(table):
        for row in batch.to_pylist():
            yield orjson.dumps(row, default=_plain)


def _plain(value: Any) -> Any:
    """What stands in JSON for a value that orjson does not know."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.timedelta):
        length = abs(value)
        sign = "-" if value != length else ""
        seconds = f"{length.seconds}.{length.microseconds:06}".rstrip("0").rstrip(".")
        return f"{sign}P{length.days}DT{seconds}S"
    if isinstance(value, dt.datetime | dt.date | dt.time):  # pandas' timestamps, of nanoseconds
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as text")


def _cells(column: pa.Array, escape_formulas: bool) -> pa.Array:
    """A column as it stands in csv: large strings, or nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pat

    kind = column.type
    if pat.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pat.is_integer(kind) or pat.is_boolean(kind) or pat.is_date32(kind) or pat.is_null(kind):
        return column.cast(pa.large_string())
    if pat.is_floating(kind):
        # 1.0, not 1: a column of floats must not come back as one of integers
        return pc.replace_substring_regex(column.cast(pa.large_string()), r"^(-?\d+)$", r"\1.0")
    if pat.is_timestamp(kind) and kind.tz is None:
        spaced = column.cast(pa.large_string())
        return pc.replace_substring_regex(pc.replace_substring(spaced, " ", "T"), r"\.0+$", "")
    if pat.is_string(kind) or pat.is_large_string(kind):
        texts = column.cast(pa.large_string())
    else:
        texts = pa.array(json_texts(column), pa.large_string())
        if pat.is_temporal(kind) or pat.is_decimal(kind):
            return texts
    return _quoted(_escaped(texts) if escape_formulas else texts)


def _quoted(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    doubled = pc.replace_substring(texts, '"', '""')
    return pc.binary_join_element_wise(_text('"'), doubled, _text('"'), _text(""))


def _escaped(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(texts, _FORMULA_STARTS, r"'\1")


def _text(text: str) -> pa.Scalar:
    import pyarrow as pa

    return pa.scalar(text, pa.large_string())
