from __future__ import annotations

import base64
import csv
import datetime as dt
import json
import math
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatan import export_text
from chatan.export import FORMATS, format_of, save, to_hf, to_pandas

BERLIN = ZoneInfo("Europe/Berlin")

moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
integers = st.integers(-(2**63), 2**63 - 1)
structures = st.fixed_dictionaries(
    {"name": st.text(), "tags": st.none() | st.lists(st.text(max_size=5), max_size=3),
     "at": st.none() | moments.map(lambda moment: moment.replace(tzinfo=dt.UTC))}
)  # fmt: skip
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text() | st.sampled_from(["", "a\nb", 'q"q', "\r", "\0", "NA", "null", "=1"]),
    pa.int64(): integers,
    pa.float64(): st.floats() | integers.map(float),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): moments,
    pa.timestamp("us", "Europe/Berlin"): moments.map(lambda moment: moment.replace(tzinfo=BERLIN)),
    pa.duration("us"): st.timedeltas(dt.timedelta(-(10**5)), dt.timedelta(10**5)),
    pa.binary(): st.binary(),
    pa.decimal128(20, 3): st.decimals(-(10**9), 10**9, places=3),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["red", "", "é", "-1"]),
    pa.null(): st.none(),
    pa.struct([]): st.just({}),
    pa.list_(pa.int64()): st.lists(integers, max_size=4),
    pa.struct(
        {"name": pa.string(), "tags": pa.list_(pa.string()), "at": pa.timestamp("us", "UTC")}
    ): structures,
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Tables of one to five columns of any type, each value perhaps null."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=5))
    size = draw(st.integers(0, 6))
    columns = [
        draw(st.lists(st.none() | VALUES[kind], min_size=size, max_size=size)) for kind in kinds
    ]
    names = draw(
        st.lists(st.text(max_size=8), min_size=len(kinds), max_size=len(kinds), unique=True)
    )
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    table = pa.table(arrays, names=names)
    middle = draw(st.integers(0, size))
    # the engine's tables come in chunks
    return pa.concat_tables([table.slice(0, middle), table.slice(middle)])


def values_of(table: pa.Table) -> list[list[Any]]:
    return [column.to_pylist() for column in table.columns]


def same(left: object, right: object) -> bool:
    """Equal with NaN equal to itself, and of the same types."""
    return repr(left) == repr(right)


def saved(table: pa.Table, format: str, **options: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(table, Path(folder, "t"), format, **options).read_bytes()


def in_json(value: Any) -> Any:
    """What the documentation says that stands in JSON for a value."""
    match value:
        case dict():
            return {name: in_json(item) for name, item in value.items()}
        case list():
            return [in_json(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case dt.date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def assert_reads_back(text: Any, value: Any) -> None:
    """``text``, as it stands in the file, is the value again."""
    if isinstance(value, dt.timedelta):
        assert pd.Timedelta(text).to_pytimedelta() == value
    elif isinstance(value, dt.datetime):
        assert dt.datetime.fromisoformat(text) == value
    elif isinstance(value, dt.date):
        assert dt.date.fromisoformat(text) == value
    else:
        assert same(text, in_json(value))


# -- files, there and back


@given(tables())
@settings(max_examples=40, deadline=None)
def test_parquet_keeps_types_and_values(table: pa.Table) -> None:
    again = pq.read_table(pa.BufferReader(saved(table, "parquet")))
    assert again.column_names == table.column_names
    for column, kept in zip(table.columns, again.columns, strict=True):
        if column.type == pa.struct([]):  # parquet has none
            assert kept.to_pylist() == [None if v is None else "{}" for v in column.to_pylist()]
        else:
            assert kept.type == column.type
            assert same(kept.to_pylist(), column.to_pylist())


@given(tables())
@settings(max_examples=50, deadline=None)
def test_json_and_jsonl_give_the_same_records(table: pa.Table) -> None:
    records = json.loads(saved(table, "json"))
    lines = saved(table, "jsonl").split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == records
    assert len(records) == len(table)
    for record, row in zip(records, table.to_pylist(), strict=True):
        assert list(record) == table.column_names
        for text, value in zip(record.values(), row.values(), strict=True):
            assert_reads_back(text, value)


@given(tables())
@settings(max_examples=80, deadline=None)
def test_csv_reads_back_and_knows_null_from_empty_text(table: pa.Table) -> None:
    written = saved(table, "csv")
    again = pa.csv.read_csv(
        pa.BufferReader(written),
        pa.csv.ReadOptions(block_size=1 << 24),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(
            column_types=dict.fromkeys(table.column_names, pa.string()),
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
        ),
    )  # fmt: skip
    assert again.column_names == table.column_names
    assert len(again) == len(table)
    for texts, column in zip(values_of(again), table.columns, strict=True):
        for text, value in zip(texts, column.to_pylist(), strict=True):
            if value is None:
                assert text == ("" if table.num_columns == 1 else None)
            elif isinstance(value, bool):
                assert text == str(value).lower()
            elif isinstance(value, float):
                assert same(float(text), value)
                assert not text.lstrip("-").isdigit()
            elif isinstance(value, int):
                assert int(text) == value
            elif isinstance(value, dict | list):
                assert json.loads(text) == in_json(value)
            else:
                assert_reads_back(text, value)
    rows = list(csv.reader(written.decode().splitlines(keepends=True)))
    assert [len(row) for row in rows] == [table.num_columns] * (len(table) + 1)


def test_csv_is_what_pandas_and_people_expect() -> None:
    table = pa.table({
        'say "a, b"': ["one\nline", None], "n": [1, None], "x": [1.0, 2.5], "ok": [True, False],
        "at": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("us")),
    })  # fmt: skip
    assert saved(table, "csv").decode() == (
        '"say ""a, b""","n","x","ok","at"\n'
        '"one\nline",1,1.0,true,2026-01-02T03:04:05\n'
        ",,2.5,false,\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        frame = pd.read_csv(save(table, Path(folder, "t.csv")), parse_dates=["at"])
    assert frame["n"].isna().tolist() == [False, True]
    assert frame["ok"].tolist() == [True, False]
    assert frame["at"][0] == pd.Timestamp("2026-01-02 03:04:05")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", ["é" * 2_000_000, "\0\x1b[31m\u2028</script>", "🦜\r\n\r"])
def test_every_text_survives(format: str, text: str) -> None:
    table = pa.table({"text": [text, "x"], "n": [1, 2]})
    written = saved(table, format)
    match format:
        case "parquet":
            values = pq.read_table(pa.BufferReader(written))["text"].to_pylist()
        case "csv":
            size = csv.field_size_limit(len(text) + 1)
            values = [row[0] for row in csv.reader(written.decode().splitlines(keepends=True))][1:]
            csv.field_size_limit(size)
        case "json":
            values = [record["text"] for record in json.loads(written)]
        case "jsonl":
            values = [json.loads(line)["text"] for line in written.split(b"\n")[:-1]]
    assert values == [text, "x"]


@given(
    st.lists(st.none() | st.text(st.sampled_from("=+-@\t\r\n\0＝a'\" 1,"), max_size=4), min_size=1)
)
def test_escaped_formulas_begin_with_an_apostrophe_and_nothing_else_changes(
    texts: list[Any],
) -> None:
    table = pa.table({
        "=n": range(-1, len(texts) - 1), "-t": pa.array(texts, pa.string()),
        "x": [-0.5] * len(texts), "b": [b"\xf8\x00"] * len(texts), "l": [["=1"]] * len(texts),
    })  # fmt: skip
    written = saved(table, "csv", escape_formulas=True).decode()
    header, *rows = csv.reader(written.splitlines(keepends=True))
    assert header == ["'=n", "'-t", "x", "b", "l"]
    for number, (text, row) in enumerate(zip(texts, rows, strict=True), start=-1):
        danger = bool(text) and text[0] in "=+-@\t\r\n\0＝"
        assert row == [str(number), f"{chr(39) * danger}{text or ''}", "-0.5", "'+AA=", '["=1"]']


def test_formulas_are_escaped_in_csv_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="json file holds no formulas"):
        save(pa.table({"a": ["=1"]}), tmp_path / "a.json", escape_formulas=True)
    assert list(tmp_path.iterdir()) == []


# -- where to, and how


@pytest.mark.parametrize(
    ("path", "format", "expected"),
    [
        ("dataset.parquet", "parquet", "parquet"), ("a.csv", None, "csv"), ("a.JSON", None, "json"),
        ("a.b.jsonl", None, "jsonl"), ("a.csv", "parquet", "parquet"), ("a", ".CSV", "csv"),
    ],
)  # fmt: skip
def test_the_format_is_said_or_the_suffix(path: str, format: str | None, expected: str) -> None:
    assert format_of(path, format) == format_of(Path(path), format) == expected


@pytest.mark.parametrize(
    ("path", "format", "mention"),
    [
        ("a.jsnl", None, "'jsnl' is no format to save in; did you mean 'jsonl'?"),
        ("a.csv", "parket", "did you mean 'parquet'?"),
        ("a.xlsx", None, "there are parquet, csv, json, jsonl"),
        ("a", None, "'a' has no suffix"),
        ("a.csv", "", "parquet, csv, json, jsonl"),
    ],
)
def test_an_unknown_format_is_told_with_the_nearest(
    path: str, format: str | None, mention: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - checked below
        save(pa.table({"a": [1]}), path, format)
    assert mention in str(caught.value)


def test_folders_are_made_and_paths_read_as_shells_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    table = pa.table({"a": [1]})
    assert save(table, "~/new/folder/a.csv") == tmp_path / "new/folder/a.csv"
    assert save(table, "a.csv").resolve() == tmp_path / "a.csv"
    longest = tmp_path / ("é" * 125 + ".csv")
    assert save(table, longest) == longest
    assert longest.read_text() == (tmp_path / "a.csv").read_text()
    (tmp_path / "link.csv").symlink_to("new/linked.csv")
    save(table, "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "new/linked.csv").is_file()


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    with pytest.raises(IsADirectoryError, match="is a folder: add the name of a file"):
        save(table, tmp_path, "csv")
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="device or pipe"):
        save(table, pipe)
    assert list(tmp_path.iterdir()) == [pipe]


def test_permissions_follow_the_umask_or_the_file_that_was_there(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    old = os.umask(0o027)
    try:
        path = save(table, tmp_path / "a.csv")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        save(table, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize("format", FORMATS)
def test_a_write_that_fails_half_way_leaves_the_old_file(format: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("old")
    table = pa.table({"a": [os.urandom(50).hex() for _ in range(30_000)], "b": range(30_000)})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limit[1]))  # as on a disk that is full
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large"):
            save(table, path, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    save(table, path, format)
    assert path.stat().st_size > 500_000


def test_a_value_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old")
    far = pa.array([1, 2**62], pa.int64()).cast(pa.timestamp("us"))  # year 148,108
    with pytest.raises((OverflowError, ValueError)):
        save(pa.table({"a": far}), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    code = (
        "import sys, pyarrow as pa; from chatan.export import save\n"
        "save(pa.table({'a': [['x' * 40] * 20] * 100_000}), sys.argv[1])"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob(".*.partial")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_memory_stays_bounded_by_batches(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_text, "_BATCH_BYTES", 1_000_000)
    table = pa.table({"text": ["x" * 40_000] * 1_000, "n": range(1_000)})
    save(table.slice(0, 1), tmp_path / f"warm.{format}")  # imports are not what is measured
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    path = save(table, tmp_path / f"a.{format}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 40_000_000
    assert peak < 8_000_000
    assert pa.total_allocated_bytes() - arrow < 8_000_000


# -- pandas


def test_dtypes_are_what_pandas_users_expect() -> None:
    table = pa.table({
        "int": [1, 2], "int?": [1, None], "small?": pa.array([1, None], pa.uint8()),
        "bool": [True, False], "bool?": [True, None], "float?": [0.5, None], "text": ["a", None],
        "at": pa.array([dt.datetime(2026, 1, 1), None], pa.timestamp("us")),
        "zoned": pa.array([dt.datetime(2026, 1, 1), None], pa.timestamp("us", "Europe/Berlin")),
        "for": pa.array([dt.timedelta(1), None]), "day": [dt.date(2026, 1, 1), None],
        "none": pa.nulls(2), "kind": pa.array(["a", None]).dictionary_encode(),
        "nested": [{"tags": ["a", None]}, None], "list": [[1, 2], []],
    })  # fmt: skip
    text = "object" if pd.__version__.startswith("2.") else "str"
    expected = {
        "int": "int64", "int?": "Int64", "small?": "UInt8", "bool": "bool", "bool?": "boolean",
        "float?": "float64", "text": text, "at": "datetime64[us]",
        "zoned": "datetime64[us, Europe/Berlin]", "for": "timedelta64[us]", "day": "object",
        "none": "object", "kind": "category", "nested": "object", "list": "object",
    }  # fmt: skip
    frame = to_pandas(table)
    assert frame.dtypes.astype(str).to_dict() == expected
    assert frame.index.equals(pd.RangeIndex(2))
    assert frame["nested"].tolist() == [{"tags": ["a", None]}, None]
    assert frame["list"].tolist() == [[1, 2], []]
    assert frame["none"].tolist() == [None, None]
    assert frame["day"].tolist() == [dt.date(2026, 1, 1), None]
    assert frame["text"].isna().tolist() == [False, True]
    empty = to_pandas(table.slice(0, 0)).dtypes.astype(str).to_dict()
    assert empty == {**expected, "int?": "int64", "small?": "uint8", "bool?": "bool"}


@given(tables())
@settings(max_examples=50, deadline=None)
def test_frames_hold_the_values_of_the_table(table: pa.Table) -> None:
    frame = to_pandas(table)
    assert list(frame.columns) == table.column_names
    assert frame.index.equals(pd.RangeIndex(len(table)))
    for name in table.column_names:
        for held, value in zip(frame[name].tolist(), table[name].to_pylist(), strict=True):
            if value is None:
                assert held is None or pd.isna(held)
            elif isinstance(value, dt.timedelta | dt.datetime | bool | int):
                assert held == value
            else:
                assert same(held, value)


def test_a_frame_can_be_changed_and_the_table_stays() -> None:
    table = pa.table({"n": [1, 2], "x": [0.5, 1.5], "t": ["a", "b"], "l": [[1], [2]]})
    frame = to_pandas(table)
    for name, value in {"n": 9, "x": 9.5, "t": "z"}.items():
        frame.loc[0, name] = value
    frame.loc[0, "l"].append(9)
    assert frame.iloc[0].tolist() == [9, 9.5, "z", [1, 9]]
    assert table.slice(0, 1).to_pylist() == [{"n": 1, "x": 0.5, "t": "a", "l": [1]}]


def test_text_is_not_copied() -> None:
    if pd.__version__.startswith("2."):
        return  # its text is Python objects
    table = pa.table({"t": ["x" * 1_000] * 10_000})
    before = pa.total_allocated_bytes()
    frame = to_pandas(table)
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert frame["t"].str.len().sum() == 10_000_000


# -- Hugging Face


def test_datasets_have_the_right_features() -> None:
    table = pa.table({
        "text": ["a", None], "n": [1, None], "at": pa.array([dt.datetime(2026, 1, 1), None]),
        "who": [{"name": "Ada", "tags": ["x"]}, None],
        "kind": pa.array(["a", "b"]).dictionary_encode(),
    }).replace_schema_metadata({"huggingface": '{"info": {"features": {}}}'})  # fmt: skip
    dataset = to_hf(table)
    assert str(dataset.features) == (
        "{'text': Value('string'), 'n': Value('int64'), 'at': Value('timestamp[us]'), "
        "'who': {'name': Value('string'), 'tags': List(Value('string'))}, 'kind': Value('string')}"
    )
    assert list(dataset) == table.to_pylist()


def test_missing_datasets_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"^[^\n]*pip install datasets$"):
        to_hf(pa.table({"a": [1]}))


def test_importing_the_module_is_light() -> None:
    heavy = {"pandas", "pyarrow", "datasets"}
    code = f"import sys, chatan.export; print({heavy} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
