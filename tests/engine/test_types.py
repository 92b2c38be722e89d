"""What functions give, as cells: odd types, columns that widen, values that fit no more."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chatan
from chatan import FailedCells, sample
from chatan.engine.table import CellColumn, Failure
from chatan.engine.types import ColumnType, plain
from engine.echo import PATIENCE, echo, refused


def numbers(n: int) -> Any:
    return sample.from_dataset({"n": list(range(n))}, "n", order="sequential")


def giving(*values: Any) -> chatan.Dataset:
    """A dataset whose column ``f`` holds these values."""
    return chatan.dataset(
        {"n": numbers(max(1, len(values))), "f": lambda n: values[n]}, len(values)
    )


@dataclasses.dataclass
class Point:
    x: int
    at: dt.date


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    name: str
    when: dt.date


class Text(str):
    __slots__ = ()


class Number(int):
    pass


DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 30, 1, 5)
PARIS = dt.timezone(dt.timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (np.int8(5), 5),
        (np.uint64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(3), 3),
        (np.datetime64(NOON, "us"), NOON),
        (np.datetime64("2024-02-29T12:30:01.000005000", "ns"), NOON),
        (np.datetime64("2024-02-29", "D"), DAY),
        (np.timedelta64(90, "s"), dt.timedelta(seconds=90)),
        (np.timedelta64(90, "ns") * 1000, dt.timedelta(microseconds=90)),
        (np.array(["2024-02-29T12:30:01.000005000"], "M8[ns]"), [NOON]),
        (pd.Timestamp(NOON), NOON),
        (pd.Timestamp(NOON, tz="UTC"), NOON.replace(tzinfo=dt.UTC)),
        (pd.Timedelta(seconds=90), dt.timedelta(seconds=90)),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series(pd.to_datetime([NOON])), [NOON]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (decimal.Decimal("1.50"), decimal.Decimal("1.50")),
        (DAY, DAY),
        (NOON, NOON),
        (NOON.replace(tzinfo=PARIS), NOON.replace(tzinfo=PARIS)),
        (dt.time(12, 30), dt.time(12, 30)),
        (dt.timedelta(days=2), dt.timedelta(days=2)),
        (Point(1, DAY), {"x": 1, "at": DAY}),
        (Colour.RED, "red"),
        (Model(name="a", when=DAY), {"name": "a", "when": "2024-02-29"}),
        (Text("x"), "x"),
        (Number(4), 4),
        ((1, 2), [1, 2]),
        (frozenset([3]), [3]),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "one", None: 2.5}, {"1": "one", "None": 2.5}),
        ([], []),
        ({"a": [{"b": None}]}, {"a": [{"b": None}]}),
        (b"\x00\xff", b"\x00\xff"),
        ("nul\x00", "nul\x00"),
        ("", ""),
        (math.inf, math.inf),
        (2**63 - 1, 2**63 - 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_types_become_what_they_stand_for(value: Any, held: Any) -> None:
    ds = giving(None, value)
    ds.generate()
    found = ds.to_arrow()["f"].to_pylist()
    assert found == [None, held]
    assert type(found[1]) is type(held)


@pytest.mark.parametrize(
    "missing", [None, pd.NA, pd.NaT, np.datetime64("NaT"), np.timedelta64("NaT")]
)
def test_what_is_missing_is_missing(missing: Any) -> None:
    ds = giving(missing, missing)
    assert list(ds.generate()["f"].isna()) == [True, True]
    assert ds["f"].states == {"done": 2}, "to give nothing is no failure"


class Endless:
    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self


class Speechless:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def circular() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Speechless(),
        Endless(),
        circular(),
        2**70,
        -(2**63) - 1,
        [2**70],
        {"a": 2**70},
        "half \ud800",
        ["half \ud800"],
        {"half \ud800": 1},
        1 + 2j,
        [1, "a"],
        [1, [2]],
        Model,
        int,
        len,
        (n for n in [1]),
        {"a": 1}.keys(),
        pd.DataFrame({"a": [1]}),
        fractions.Fraction(1, 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_stand_in_a_table_fails_its_cell_only(value: Any) -> None:
    ds = giving(None, value, None)
    with pytest.warns(FailedCells, match="f: type x 1"):
        df = ds.generate()
    assert ds["f"].states == {"done": 2, "failed": 1}
    assert df["f"].isna().all()
    (message,) = ds.errors["message"]
    assert len(message) < 200
    assert "\n" not in message


def test_an_int_column_with_failed_cells_stays_an_int_column() -> None:
    gen, _ = echo(lambda prompt, attempt: refused() if prompt == "1" else prompt)
    ds = chatan.dataset(
        {"n": numbers(4), "q": gen("{n}"), "int": lambda q: int(q), "bool": lambda q: q == "0"}
    )
    with pytest.warns(FailedCells):
        df = ds.generate(4)
    assert str(df["int"].dtype) == "Int64"
    assert str(df["bool"].dtype) == "boolean"
    assert df["int"].tolist()[2:] == [2, 3]
    assert ds.to_arrow().schema.field("int").type == pa.int64()


def test_ints_widen_to_floats_and_whatever_fits_no_more_fails() -> None:
    ds = giving(1, 2.5, 3, "four", True, None, 6)
    with pytest.warns(FailedCells, match="f: type x 2"):
        df = ds.generate()
    assert df["f"].dtype == float
    assert df["f"].tolist()[:3] == [1.0, 2.5, 3.0]
    assert list(ds.errors["row"]) == [3, 4]
    assert ds.errors["message"][0] == "'four': it is string, but the column holds double"


@pytest.mark.parametrize("at", [3, 1500])
def test_a_column_widens_however_long_it_held_ints_and_however_large(at: int) -> None:
    large = 2**53 + 1  # no float holds this exactly

    ds = chatan.dataset({"n": numbers(2000), "f": lambda n: n + 0.5 if n == at else large})
    ds.generate(at)
    assert ds.to_arrow().schema.field("f").type == pa.int64()
    df = ds.generate(2000)
    assert df["f"].dtype == float
    assert df["f"][at] == at + 0.5
    assert set(df["f"].drop(at)) == {float(large)}


@pytest.mark.parametrize("at", [3, 1500])
def test_structures_take_new_fields_however_long_they_had_none(at: int) -> None:
    def f(n: int) -> dict[str, Any]:
        return {"a": 0.5, "b": [{"c": n}]} if n == at else {"a": n, "b": []}

    ds = chatan.dataset({"n": numbers(2000), "f": chatan.function(f, ["n"])})
    ds.generate(at)
    ds.generate(2000)
    held = ds.to_arrow()["f"].to_pylist()
    assert held[at] == {"a": 0.5, "b": [{"c": at}]}
    assert held[at - 1] == {"a": float(at - 1), "b": []}


def test_decimals_and_dates_widen() -> None:
    ds = giving(decimal.Decimal("1.5"), decimal.Decimal("100.25"), decimal.Decimal("0.001"))
    assert ds.generate()["f"].tolist()[1] == decimal.Decimal("100.25")
    late = giving(NOON, NOON.replace(tzinfo=dt.UTC))
    with pytest.warns(FailedCells, match="type x 1"):
        late.generate()


def test_annotations_decide_the_type() -> None:
    def whole(n: int) -> int:
        return [1, 2.0, 2.5, "4", None][n]  # type: ignore[return-value]

    def number(n: int) -> float | None:
        return [1, 2.5, "x", None, True][n]  # type: ignore[return-value]

    def texts(n: int) -> list[str]:
        return [["a"], [], [1], "ab", None][n]  # type: ignore[return-value]

    def unknown(n: int) -> Unheard:  # type: ignore[name-defined]  # noqa: F821
        return n

    ds = chatan.dataset(
        {"n": numbers(5), "whole": whole, "number": number, "texts": texts, "unknown": unknown}
    )
    assert ds.generate(0)["number"].dtype == float, "known before there are rows"
    with pytest.warns(FailedCells):
        ds.generate(5)
    schema = ds.to_arrow().schema
    assert [str(schema.field(name).type) for name in ("whole", "number", "unknown")] == [
        "int64", "double", "int64",
    ]  # fmt: skip
    assert schema.field("texts").type.value_type == pa.string()
    failed = ds.errors.groupby("column")["row"].apply(list).to_dict()
    assert failed["whole"] == [2, 3]
    assert 2 in failed["number"]
    assert failed["texts"] == [2, 3]


def test_a_column_of_nothing_is_a_column_still() -> None:
    ds = giving(None, None)
    df = ds.generate()
    assert list(df.columns) == ["n", "f"]
    assert df["f"].isna().all()


def test_static_values_and_half_characters_in_them() -> None:
    static: dict[str, Any] = {"list": [1, 2], "dict": {"a": 1}, "date": DAY, "none": None}
    static |= {"nan": math.nan, "text": "é", "array": np.array([1, 2]), "number": np.int8(3)}
    static |= {"time": pd.Timestamp(NOON), "set": {1}, "tuple": (1, 2)}
    df = chatan.dataset(static).generate(2)
    assert df["dict"][1] == {"a": 1}
    assert list(df["array"][1]) == list(df["tuple"][1]) == [1, 2]
    assert df["number"].tolist() == [3, 3]
    for wrong in (object(), "half \ud800", 2**70, {"a": "half \ud800"}, [1, "a"]):
        with pytest.raises(chatan.SchemaError, match=r"column 'wrong': .*(cannot|can|not fit)"):
            chatan.dataset({"wrong": wrong})


def test_the_table_can_be_read_at_any_moment_of_a_run() -> None:
    """A reader in another thread sees a table that is whole, whatever widens under it."""

    def widening(n: int) -> Any:
        return None if n < 400 else n if n < 1300 else n + 0.5

    gen, _ = echo(lambda prompt, attempt: refused() if prompt.endswith("7") else prompt)
    ds = chatan.dataset({"n": numbers(3000), "q": gen("{n}"), "f": widening})
    run = ds.start(3000)
    faults: list[BaseException] = []

    def read() -> None:
        while not run.done():
            try:
                table = ds.to_arrow()
                assert set(table.column_names) == {"n", "q", "f"}
                assert len(ds.errors) <= 300
                assert sum(ds["q"].states.values()) == len(ds)
                assert run.progress.rows_done <= 3000
            except BaseException as fault:
                faults.append(fault)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with pytest.warns(FailedCells, match=r"300 of 3,000"):
        run.result(PATIENCE)
    for reader in readers:
        reader.join(PATIENCE)
    assert not faults


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(["half \ud800", 2**53 + 1, 2**63 - 1]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=5,
)


def same(given: Any, held: Any) -> bool:
    """Whether a table holds what it was given; numbers may be floats now, fields may be null."""
    if isinstance(given, dict):
        return all(same(given.get(name), value) for name, value in held.items())
    if isinstance(given, list):
        return len(given) == len(held) and all(map(same, given, held))
    if isinstance(held, float) and given is not None:
        return float(given) == held
    return bool(given == held)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(st.tuples(VALUES, st.booleans()), max_size=12))
def test_a_column_holds_what_fits_and_refuses_the_rest_whatever_comes_when(
    values: list[tuple[Any, bool]],
) -> None:
    column = CellColumn(ColumnType())
    column.extend(len(values))
    kept = []
    for row, (value, sealed) in enumerate(values):
        try:
            column.put(row, plain(value))
            kept.append(value)
        except ValueError as fault:
            kept.append(None)
            column.fail(row, Failure("type", str(fault)))
        if sealed:
            column.seal(0)
    held = column.arrow(len(values)).to_pylist()
    assert all(map(same, kept, held)), (kept, held)
    assert all(same(column.get(row), value) for row, value in enumerate(held))
