from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatan.schema.rows import Rows, Stream
from chatan.schema.samplers import SampleFunction, sample

STREAM = Stream(seed=0, dataset="", column="value")
NAN, INF = float("nan"), float("inf")
DAYS = "2024-01-01", "2024-01-02"
TABLE = {"name": ["a", "b"], "quantity": [1, 2]}

FAULTS: list[tuple[SampleFunction, list[str]]] = [
    (sample.choice([]), ["nothing to choose from"]),
    (sample.choice({}), ["nothing to choose from"]),
    (sample.choice("abc"), ["'abc' is a text, not a list; write ['abc']"]),
    (sample.choice({"a", "b"}), ["a set has no order", "sorted"]),
    (sample.choice(5), ["5 is no list of values"]),
    (sample.choice(None), ["None is no list of values"]),
    (sample.choice(x for x in "ab"), ["no list of values"]),
    (sample.choice(pd.DataFrame(TABLE)), ["a table is no list", "sample.from_dataset"]),
    (sample.choice([1, None, "a"]), ["1 and 'a' cannot stand in one column", "write all as text"]),
    (sample.choice([1.5, True]), ["1.5 and True cannot stand in one column"]),
    (sample.choice([dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)]), ["cannot stand in one column"]),
    (
        sample.choice([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]),
        ["cannot stand in one column"],
    ),
    (sample.choice([{"a": 1}, {"a": "x"}]), ["the values cannot stand in one column"]),
    (sample.choice([1, 2**64]), [f"{2**64} does not fit into 64 bits; write it as text"]),
    (sample.choice(["a", "\ud800"]), [r"'\ud800' holds half a character"]),
    (sample.choice([object]), ["of type type, cannot stand in a column"]),
    (sample.choice([{1: 2}]), ["{1: 2}, of type dict, cannot stand in a column"]),
    (sample.choice({"a": -1, "b": 2}), ["the weight of 'a' is -1; write 0 or more"]),
    (sample.weighted({"a": NAN}), ["the weight of 'a' is nan"]),
    (sample.weighted({"a": INF}), ["the weight of 'a' is inf"]),
    (sample.weighted({"a": 10**400}), ["the weight of 'a' is 1000", "fits into 64 bits"]),
    (sample.weighted({"a": "much", "b": -1}), ["the weight of 'a' is 'much'", "of 'b' is -1"]),
    (sample.weighted({"a": True}), ["the weight of 'a' is True; write a number"]),
    (sample.weighted({"a": 0, "b": 0.0}), ["all weights are 0"]),
    (sample.weighted({}), ["nothing to choose from"]),
    (sample.weighted(["a", "b"]), ["there are no weights; write {value: weight, ...}"]),
    (sample.weighted(["a", "b"], [1]), ["1 weights for 2 values"]),
    (sample.weighted((["a", "b"], [1, 2, 3])), ["3 weights for 2 values"]),
    (sample.weighted(["a", "b"], 5), ["the weights are no list of numbers"]),
    (sample.uniform("0", 1), ["low is '0'; write a number"]),
    (sample.uniform(2, 1), ["low (2) is above high (1); write them the other way round"]),
    (sample.uniform(0, INF), ["high is inf"]),
    (sample.range(5, 1), ["start (5) is above end (1)"]),
    (sample.range(0, 10, 0), ["step is 0; write a number above 0"]),
    (sample.range(0, 10, -0.5), ["step is -0.5; write a number above 0"]),
    (sample.range(0, 10, NAN), ["step is nan"]),
    (sample.range(0, None), ["end is None; write a number"]),
    (sample.range(False, True), ["start is False; write a number", "end is True"]),
    (sample.range(0, 2**63), ["does not fit into 64 bits"]),
    (sample.range(-(2**63), 2**63 - 1), ["values are too many; write a larger step"]),
    (sample.range(0, 1e300, 1e-3), ["values are too many; write a larger step"]),
    (sample.normal(0, -1), ["std is -1; write a number of 0 or more"]),
    (sample.normal("a", "b"), ["mean is 'a'", "std is 'b'"]),
    (sample.poisson(-0.1), ["rate is -0.1; write a number of 0 or more"]),
    (sample.poisson(1e10), ["rate is 10000000000.0, above 1e+09; write a normal distribution"]),
    (sample.bernoulli(1.5), ["p is 1.5; write a probability from 0 to 1"]),
    (sample.bernoulli("half"), ["p is 'half'; write a number"]),
    (sample.distribution(scipy.stats.norm), ["is no frozen distribution; write e.g."]),
    (sample.distribution(scipy.stats.norm(0, -1)), ["outside of its domain"]),
    (sample.distribution(scipy.stats.norm([0, 1], 1)), ["arrays for parameters"]),
    (sample.distribution(3), ["3 is no frozen distribution"]),
    (sample.datetime("2024-13-01", "2025-01-01"), ["start is '2024-13-01', which is no date like"]),
    (
        sample.datetime("yesterday", "31.12.2024", "%d.%m.%Y"),
        ["start is 'yesterday', which is no date", "not in the format '%d.%m.%Y'"],
    ),
    (sample.datetime("x", "y"), ["start is 'x'", "end is 'y'"]),
    (sample.datetime(20240101, None), ["start is 20240101; write '2024-01-31'", "end is None"]),
    (sample.datetime(pd.NaT, "2024-01-01"), ["start is NaT"]),
    (
        sample.datetime("2025-01-01", "2024-01-01"),
        ["start (2025-01-01 00:00:00) is after end (2024-01-01 23:59:59.999999)"],
    ),
    (
        sample.datetime("2024-01-01T00:00Z", "2024-01-02"),
        ["only one of start and end has a time zone"],
    ),
    (sample.datetime(*DAYS, "YYYY-MM-DD"), ["format is 'YYYY-MM-DD', without"]),
    (sample.datetime(*DAYS, 7), ["format is 7, without directives"]),
    (sample.datetime(*DAYS, step=5), ["step is 5 of no unit; write unit="]),
    (sample.datetime(*DAYS, step=0, unit="days"), ["step is 0; write one above 0"]),
    (sample.datetime(*DAYS, step=dt.timedelta(-1)), ["step is -1 day"]),
    (sample.datetime(*DAYS, step="a", unit="days"), ["step is 'a'; write a number"]),
    (sample.datetime(*DAYS, step=1e300, unit="days"), ["longer than any calendar"]),
    (sample.datetime(*DAYS, unit="month"), ["unit is 'month'", "weeks"]),
    (sample.datetime(*DAYS, unit="minuts"), ["did you mean 'minute'?"]),
    (sample.datetime(*DAYS, unit=3), ["unit is 3; the units are"]),
    (
        sample.datetime(*DAYS, step=dt.timedelta(1), unit="days"),
        ["step is a timedelta, which has units of its own"],
    ),
    (sample.by(3, {"a": 1}), ["sample.by takes the name of a column first, not 3"]),
    (sample.by("x", {}), ["at least one entry, not {}"]),
    (sample.by("x", ["a"]), ["takes {value: sampler, ...}, at least one entry, not ['a']"]),
    (
        sample.by("x", {"a": [], "b": {"c": -1}}, default=sample.normal(0, -1)),
        ["for 'a': there is nothing", "for 'b': the weight of 'c'", "the default: std is -1"],
    ),
    (
        sample.by("x", {"a": 1, "b": sample.uniform(), "c": "text"}),
        ["for 'a' (double) and for 'c' (string) cannot stand in one column; write all as text"],
    ),
    (sample.by("x", {"a": sample.by("y", {"b": []})}), ["for 'a': for 'b': there is nothing"]),
    (sample.by("x", {"a": len}), ["for 'a': <built-in function len>, of type"]),
    (sample.function(3), ["3 is no function; write sample.function(lambda rng, size:"]),
    (sample.function(lambda: 3), ["cannot be called with a generator and a size"]),
    (sample.from_dataset(TABLE, "nmae"), ["the data has no column 'nmae'; did you mean 'name'?"]),
    (sample.from_dataset(TABLE, "zzz"), ["no column 'zzz'; it has 'name', 'quantity'"]),
    (sample.from_dataset(TABLE, 3), ["no column 3; it has 'name', 'quantity'"]),
    (sample.row(TABLE)["nam"], ["the data has no column 'nam'; did you mean 'name'?"]),
    (sample.from_dataset(TABLE, "name", order="shufle"), ["did you mean 'shuffle'?"]),
    (sample.from_dataset(TABLE, "name", order=None), ["order is None; the orders are random,"]),
    (sample.from_dataset({"a": []}, "a"), ["the data has no rows"]),
    (sample.from_dataset([], "a"), ["data of type list is no table"]),
    (sample.from_dataset("data.csv", "a"), ["data of type str is no table; give a DataFrame"]),
    (sample.from_dataset({"a": "abc"}, "a"), ["column 'a' of the data is 'abc'; write a list"]),
    (sample.from_dataset({"a": [1], "b": [1, 2]}, "a"), ["not of one length: 'a' 1, 'b' 2"]),
    (sample.from_dataset({"a": [1, "x"]}, "a"), ["column 'a' of the data: 1 and 'x' cannot"]),
    (sample.from_dataset(pd.DataFrame({"a": [1, "x"]}), "a"), ["column 'a' of the data: Could"]),
    (
        sample.from_dataset(pd.DataFrame([[1, 2]], columns=["a", "a"]), "a"),
        ["the data has 2 columns named 'a'; rename one"],
    ),
]


@pytest.mark.parametrize(
    ("sampler", "mentions"), FAULTS, ids=[mentions[0][:50] for _, mentions in FAULTS]
)
def test_what_is_wrong_is_said(sampler: SampleFunction, mentions: list[str]) -> None:
    faults = sampler.faults()
    text = "\n".join(faults)
    for mention in mentions:
        assert mention in text
    assert faults


def test_hugging_face_splits_and_streams_are_refused() -> None:
    import datasets

    table = datasets.Dataset.from_dict(TABLE)
    splits = sample.from_dataset(datasets.DatasetDict({"train": table}), "name").faults()
    assert splits == ["the data has splits: ['train']; give one of them, data['train']"]
    stream = sample.from_dataset(table.to_iterable_dataset(), "name").faults()
    assert "can only be read from start to end" in stream[0]


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=3),
        st.sampled_from(
            ["parent", "name", "day", "%Y", "2024-01-01", "2024-02-01T10:00", "random", ""]
        ),
        st.binary(max_size=2),
        st.decimals(),
        st.fractions(),
        st.complex_numbers(),
        st.dates(),
        st.datetimes(),
        st.datetimes(timezones=st.timezones()),
        st.timedeltas(),
        st.sampled_from([object(), len, int, ..., Decimal("NaN"), Fraction(1, 3), np.float32(0.1)]),
        st.sampled_from([np.int8(3), np.array([1, 2]), np.array([[1.5]]), np.array(3), pd.NaT]),
        st.sampled_from([pd.Series([1, None]), pd.DataFrame(TABLE), pa.table(TABLE), pd.NA]),
        st.sampled_from([scipy.stats.norm(0, 1), sample.uuid(), sample.normal("x"), range(3)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(
            st.one_of(st.text(max_size=2), st.integers(), st.none()), inner, max_size=3
        ),
    ),
    max_leaves=5,
)

MAKERS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "choice": (sample.choice, 1, 1),
    "weighted": (sample.weighted, 1, 2),
    "datetime": (sample.datetime, 2, 5),
    "range": (sample.range, 2, 3),
    "uniform": (sample.uniform, 0, 2),
    "normal": (sample.normal, 0, 2),
    "poisson": (sample.poisson, 1, 1),
    "bernoulli": (sample.bernoulli, 1, 1),
    "distribution": (sample.distribution, 1, 1),
    "by": (sample.by, 2, 3),
    "from_dataset": (sample.from_dataset, 2, 3),
    "from_dataset_column": (lambda *given: sample.from_dataset(TABLE, *given), 1, 2),
    "row": (lambda data, column: sample.row(data)[column], 2, 2),
}


@pytest.mark.parametrize("name", MAKERS)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_no_argument_raises_and_what_has_no_fault_draws(name: str, data: st.DataObject) -> None:
    make, least, most = MAKERS[name]
    sampler = make(*data.draw(st.lists(JUNK, min_size=least, max_size=most)))
    faults = sampler.faults()
    assert all(isinstance(fault, str) for fault in faults)
    if faults or name == "by":
        return
    drawn = sampler.draw(Rows(0, 2), STREAM, {})
    drawn.validate(full=True)
    assert len(drawn) == 2
    assert drawn.type == sampler.arrow_type()
    sampler.values()
