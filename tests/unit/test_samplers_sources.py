from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatan.schema.rows import Rows, Stream
from chatan.schema.samplers import SampleFunction, sample
from chatan.schema.sources import Source

STREAM = Stream(seed=3, dataset="d", column="value")
OTHER = Stream(seed=3, dataset="d", column="other")
PLAIN = {
    "name": ["Ada", "Alan", None, "Éva", "Grace", "Ada"],
    "born": [1815, 1912, 1800, 1930, 1906, 1815],
    "score": [0.5, 1.5, 2.5, -1.0, None, 0.0],
    "known": [True, False, True, None, True, False],
}
RECORDS = [dict(zip(PLAIN, row, strict=True)) for row in zip(*PLAIN.values(), strict=True)]
ARROW = pa.table(PLAIN)


def drawn(sampler: SampleFunction, count: int = 60, stream: Stream = STREAM) -> list[Any]:
    assert sampler.faults() == []
    return sampler.draw(Rows(0, count), stream, {}).to_pylist()


def coded(table: pa.Table) -> pa.Table:
    return table.set_column(0, "name", table["name"].dictionary_encode())


@pytest.mark.parametrize(
    "data",
    [
        RECORDS,
        ARROW,
        ARROW.to_batches()[0],
        pa.concat_tables([ARROW.slice(0, 2), ARROW.slice(2, 3), ARROW.slice(5)]),
        pa.concat_tables([ARROW, ARROW]).slice(6),
        coded(ARROW),
        ARROW.set_column(0, "name", ARROW["name"].cast(pa.string_view())),
        datasets.Dataset.from_dict(PLAIN),
        datasets.Dataset(pa.concat_tables([ARROW, ARROW])).select(range(6, 12)),
        datasets.Dataset(ARROW).with_format("numpy"),
        pd.DataFrame(PLAIN).astype({"born": "int64", "known": "boolean"}),
        pd.DataFrame(PLAIN, index=list("qwerty")).astype({"name": "category", "known": "boolean"}),
        pd.DataFrame(PLAIN, dtype="object"),
    ],
    ids=lambda data: type(data).__name__,
)
def test_the_same_rows_give_the_same_draws_whatever_they_are_kept_in(data: Any) -> None:
    for column, values in PLAIN.items():
        for order in ("random", "shuffle"):
            assert drawn(sample.from_dataset(data, column, order)) == drawn(
                sample.from_dataset(PLAIN, column, order)
            )
        in_order = sample.from_dataset(data, column, "sequential")
        assert drawn(in_order, 6) == values
        assert in_order.arrow_type() == ARROW.schema.field(column).type
    source = Source(data)
    assert {name: source.column(name).to_pylist() for name in source.names} == PLAIN


def test_pairs_stay_pairs() -> None:
    pairs = set(zip(PLAIN["name"], PLAIN["born"], strict=True))
    for order in ("random", "shuffle", "sequential"):
        names = drawn(sample.from_dataset(PLAIN, "name", order, cycle=True))
        again = sample.from_dataset(pd.DataFrame(RECORDS), "born", order, cycle=True)
        born = drawn(again, stream=OTHER)
        assert set(zip(names, born, strict=True)) <= pairs
        row = sample.row(ARROW, order=order, cycle=True)
        assert (drawn(row["name"]), drawn(row["born"], stream=OTHER)) == (names, born)
    apart = drawn(sample.from_dataset(PLAIN, "born", aligned=False), stream=OTHER)
    assert not set(zip(drawn(sample.from_dataset(PLAIN, "name")), apart, strict=True)) <= pairs


def test_rows_with_identities_stay_paired_too() -> None:
    rows = Rows(0, 50, np.arange(7, 57, dtype=np.uint64) ** 3)
    names, born = (
        sample.from_dataset(PLAIN, column).draw(rows, stream, {}).to_pylist()
        for column, stream in (("name", STREAM), ("born", OTHER))
    )
    assert set(zip(names, born, strict=True)) <= set(zip(PLAIN["name"], PLAIN["born"], strict=True))


@given(st.integers(1, 300), st.integers(1, 4))
def test_a_shuffle_uses_up_the_rows_before_it_begins_again(size: int, rounds: int) -> None:
    values = drawn(sample.from_dataset({"n": list(range(size))}, "n", "shuffle"), size * rounds)
    turns = [tuple(values[start : start + size]) for start in range(0, size * rounds, size)]
    assert all(sorted(turn) == list(range(size)) for turn in turns)
    if size > 20:
        assert len(set(turns)) == rounds


def test_random_draws_repeat_and_reach_every_row() -> None:
    counts = Counter(drawn(sample.from_dataset({"n": list(range(50))}, "n"), 5000))
    assert set(counts) == set(range(50))
    assert 50 < min(counts.values()) < max(counts.values()) < 160


def test_a_sequence_says_where_it_ends() -> None:
    sampler = sample.from_dataset(PLAIN, "born", order="sequential")
    assert drawn(sampler, 6) == PLAIN["born"]
    end = r"row 6 is past the end of the 6 rows .* cycle=True .* order='shuffle'"
    with pytest.raises(ValueError, match=end):
        sampler.draw(Rows(4, 9), STREAM, {})
    with pytest.raises(ValueError, match="row 70 is past"):
        sampler.draw(Rows(70, 71), STREAM, {})
    cycle = sample.from_dataset(PLAIN, "born", order="sequential", cycle=True)
    assert cycle.draw(Rows(4, 9), STREAM, {}).to_pylist() == [1906, 1815, 1815, 1912, 1800]


def test_within_by_a_sequence_ends_only_for_rows_that_ask_for_it() -> None:
    sampler = sample.by("p", {"a": sample.from_dataset({"n": [1, 2]}, "n", "sequential"), "b": 0})
    values = sampler.draw(Rows(0, 4), STREAM, {"p": pa.array(["b", "a", "b", "b"])})
    assert values.to_pylist() == [0, 2, 0, 0]


def test_what_the_user_does_to_the_data_later_changes_nothing() -> None:
    data = pd.DataFrame(PLAIN)
    sampler = sample.from_dataset(data, "born")
    before = drawn(sampler)
    data["born"] = 0
    del data["name"]
    assert sampler.draw(Rows(0, 60), STREAM, {}).to_pylist() == before
    assert set(drawn(sample.from_dataset(data, "born"))) == {0}


def test_columns_that_nobody_draws_may_hold_anything() -> None:
    data = pd.DataFrame({"a": [1, 2, 3], "mixed": [1, "x", object()], 7: [1, 2, 3]})
    assert set(drawn(sample.from_dataset(data, "a"))) == {1, 2, 3}
    assert set(drawn(sample.from_dataset(data, 7))) == {1, 2, 3}
    with pytest.raises(ValueError, match="column 'mixed' of the data"):
        Source(data).column("mixed")
    with pytest.raises(TypeError, match="no table; give a DataFrame"):
        Source(3).names  # noqa: B018 - reading them is the test


def test_a_row_cannot_be_walked_through_for_ever() -> None:
    with pytest.raises(TypeError):
        list(sample.row(PLAIN))  # type: ignore[call-overload]


def test_known_values_are_those_of_the_column() -> None:
    assert sample.from_dataset(PLAIN, "name").values() == ["Ada", "Alan", None, "Éva", "Grace"]


COLUMNS = {
    "whole": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False),
    "text": st.text(st.characters(codec="utf-8"), max_size=5),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=5),
    "day": st.dates(),
    "moment": st.datetimes(),
    "span": st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    "decimal": st.decimals(0, 99, places=2),
    "list": st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=3),
    "struct": st.fixed_dictionaries({"a": st.integers(0, 5), "b": st.none() | st.floats(0, 1)}),
}
KINDS = {
    "whole": pa.int64(),
    "real": pa.float64(),
    "text": pa.string(),
    "bool": pa.bool_(),
    "bytes": pa.binary(),
    "day": pa.date32(),
    "moment": pa.timestamp("us"),
    "span": pa.duration("us"),
    "decimal": pa.decimal128(6, 2),
    "list": pa.list_(pa.string()),
    "struct": pa.struct([("a", pa.int64()), ("b", pa.float64())]),
}


@pytest.mark.parametrize("kind", COLUMNS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_digest_is_that_of_the_values_alone(kind: str, data: st.DataObject) -> None:
    value = st.none() | COLUMNS[kind]
    values = data.draw(st.lists(value, min_size=1, max_size=12))
    cut, where = data.draw(st.integers(0, len(values))), data.draw(st.integers(0, len(values) - 1))

    def digest(column: pa.Array | pa.ChunkedArray, name: str = "x") -> str:
        return Source(pa.table({name: column})).digest

    array = pa.array(values, KINDS[kind])
    expected = digest(array)
    cut_up = pa.chunked_array([array[:cut], pa.array([], KINDS[kind]), array[cut:]])
    within = pa.concat_arrays([array, array])[len(values) :]
    assert expected == digest(cut_up) == digest(within)
    # a null may hide anything
    mask = np.array([entry is None for entry in values])
    some = next((entry for entry in values if entry is not None), None)
    shown = [some if entry is None else entry for entry in values]
    if kind not in {"list", "struct"}:
        assert digest(pa.array(shown, KINDS[kind], mask=mask)) == expected
    assert digest(array, "y") != expected
    changed = [*values]
    changed[where] = data.draw(value.filter(lambda entry: entry != values[where]))
    assert digest(pa.array(changed, KINDS[kind])) != expected


def test_a_digest_tells_types_and_borders_apart() -> None:
    tables = [
        {"a": [1, 2]},
        {"a": [1.0, 2.0]},
        {"a": ["1", "2"]},
        {"a": ["12", ""]},
        {"a": ["", "12"]},
        {"a": [b"12", b""]},
        {"a": [None, "12"]},
        {"a": ["12", None]},
        {"a": [True, False]},
        {"a": [Decimal(1), Decimal(2)]},
        {"a": [1, 2], "b": [1, 2]},
        {"a": [1, 2, 1, 2]},
        {"b": [1, 2]},
        {"a": [[1], [2]]},
        {"a": [[1, 2], []]},
    ]
    assert len({Source(table).digest for table in tables}) == len(tables)
