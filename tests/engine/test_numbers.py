"""How many rows: the total, whatever was made before, and what is no number of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import chatan
from chatan import sample
from engine.echo import echo


def test_no_rows_is_an_empty_frame_with_the_columns_in_order() -> None:
    gen, provider = echo()
    ds = chatan.dataset(
        {"n": sample.range(1, 6), "q": gen("Q {n}"), "len": lambda q: len(q), "source": "here"}
    )
    df = ds.generate(0)
    assert list(df.columns) == ["n", "q", "len", "source"]
    assert len(df) == 0
    assert provider.calls == 0
    assert len(ds.generate(3)) == 3, "an empty start spoils nothing"


@pytest.mark.parametrize("n", [-1, np.int64(-7), True, False])
def test_what_is_no_number_of_rows(n: object) -> None:
    ds = chatan.dataset({"a": "x"})
    for verb in (ds.generate, ds.start, ds.run):
        with pytest.raises(ValueError, match=r"n is a number of rows from 0"):
            verb(n)


@pytest.mark.parametrize("n", ["5", 2.0, [3], np.True_, object()])
def test_what_is_no_whole_number(n: object) -> None:
    with pytest.raises(TypeError, match="n is a number of rows, not"):
        chatan.dataset({"a": "x"}).generate(n)
    with pytest.raises(TypeError, match="n is a number of rows, not"):
        chatan.dataset({"a": "x"}, n)


def test_n_may_be_said_once_and_must_be_said() -> None:
    ds = chatan.dataset({"a": "x"})
    with pytest.raises(ValueError, match=r"how many rows\? write ds\.generate\(100\)"):
        ds.generate()
    assert len(chatan.dataset({"a": "x"}, np.int32(3)).generate()) == 3
    assert len(chatan.dataset({"a": "x"}, 3).generate(None)) == 3
    assert len(chatan.dataset({"a": "x"}, 3).generate(np.uint8(4))) == 4


@pytest.mark.parametrize("name", ["concurrency", "max_concurrent_rows", "max_concurrent_columns"])
def test_limits_are_numbers_from_one(name: str) -> None:
    ds = chatan.dataset({"a": "x"})
    for wrong in (0, -1, "4", 2.5, True):
        with pytest.raises((TypeError, ValueError), match=f"{name} is a number from 1"):
            ds.generate(1, **{name: wrong})
    assert len(ds.generate(1, **{name: np.int64(2)})) == 1


def test_more_rows_extend_and_nothing_is_sent_again() -> None:
    gen, provider = echo()
    ds = chatan.dataset({"n": sample.range(1, 10**6), "q": gen("Q {n}"), "a": gen("A {q}")})
    first = ds.generate(5)
    assert provider.calls == 10
    longer = ds.generate(12)
    assert provider.calls == 24
    pd.testing.assert_frame_equal(longer.head(5), first)
    shorter = ds.generate(3)
    pd.testing.assert_frame_equal(shorter, first.head(3))
    again = ds.generate(12)
    pd.testing.assert_frame_equal(again, longer)
    assert provider.calls == 24, "the same call again sends nothing"
    assert len(ds) == 12


def test_rows_over_many_blocks_extend_too() -> None:
    gen, provider = echo(concurrency=64)
    columns = {"n": sample.range(1, 10**6), "q": gen("{n}"), "len": lambda q: len(q)}
    whole = chatan.dataset(columns).generate(2500)
    ds = chatan.dataset(columns)
    ds.generate(1000)
    ds.generate(1030)
    pd.testing.assert_frame_equal(ds.generate(2500), whole)
    assert provider.calls == 5000


def test_preview_makes_the_first_rows_and_keeps_them() -> None:
    gen, provider = echo()
    ds = chatan.dataset({"n": sample.range(1, 10**6), "q": gen("Q {n}")})
    preview = ds.preview()
    assert len(preview) == 5
    pd.testing.assert_frame_equal(ds.generate(8).head(5), preview)
    assert provider.calls == 8
