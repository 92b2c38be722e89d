"""Columns added to rows that people have: all rows, their order, index and types untouched."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chatan
from chatan import FailedCells, SchemaError, sample
from engine.echo import echo, refused


def tickets() -> pd.DataFrame:
    """What real frames are like."""
    frame = pd.DataFrame(
        {
            "ticket_id": [7, 3, 9, 3, 1],
            "text": ["good", None, 'bäd\n,"', "", "{text} {x}"],
            "score": [1.5, np.nan, np.inf, -0.0, 2.0],
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-03", "2024-01-04", "2024-01-05"]),
            "kind": pd.Categorical(["a", "b", None, "a", "b"], categories=["b", "a", "z"]),
            "whole": pd.array([1, None, 3, 4, 5], dtype="Int64"),
            "flag": pd.array([True, None, False, True, True], dtype="boolean"),
            "mixed": [1, "two", None, 3.5, dt.date(2024, 1, 1)],
            "lists": [[1], [], None, [2, 3], [4]],
            "small": np.array([1, 2, 3, 4, 5], dtype="int8"),
            "price": [decimal.Decimal("1.5")] * 5,
        },
        index=pd.Index(["b", "a", "b", np.nan, "c"], name="odd"),
    )
    frame.attrs["source"] = "a test"
    return frame


def test_a_frame_comes_back_as_it_was_with_columns_more() -> None:
    frame, untouched = tickets(), tickets()
    gen, provider = echo()
    ds = chatan.augment(
        frame,
        {
            "label": gen("Classify: {text}|{score}|{when}|{kind}|{whole}|{flag}|{mixed}|{lists}"),
            "twice": lambda whole: None if whole is None else 2 * whole,
            "draw": sample.uniform(0, 1),
            "same": "x",
        },
    )
    df = ds.generate()
    assert list(df.columns) == [*untouched.columns, "label", "twice", "draw", "same"]
    pd.testing.assert_frame_equal(df[list(untouched.columns)], untouched)
    pd.testing.assert_frame_equal(frame, untouched)
    assert set(provider.prompts) >= {
        "Classify: good|1.5|2024-01-01 00:00:00|a|1|True|1|[1]",
        "Classify: |||b|||two|[]",  # what is missing is empty text
        "Classify: |-0.0|2024-01-04 00:00:00|a|4|True|3.5|[2,3]",
    }
    assert df["label"].notna().all()
    assert df["twice"].tolist()[2:] == [6, 8, 10]
    assert df["twice"].isna().tolist() == [False, True, False, False, False]
    assert df["kind"].dtype == untouched["kind"].dtype
    calls = provider.calls
    ds.generate()
    assert provider.calls == calls


def test_what_the_user_does_to_the_frame_afterwards_is_not_ours() -> None:
    frame = tickets()
    gen, _ = echo()
    ds = chatan.augment(frame, {"label": gen("{text}")})
    frame["label"] = "mine"
    frame.loc["c", "text"] = "changed"
    df = ds.generate()
    assert list(df.columns) == [*tickets().columns, "label"]
    assert df["text"].iloc[4] == "{text} {x}"
    assert df["label"].iloc[4] == "<{text} {x}>"


ROWS = [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"a": 3}]
ARROW = pa.table({"a": pa.array([1, None, 3], pa.int16()), "b": ["x", "y", None]})


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        {"a": [1, None, 3], "b": ["x", "y", None]},
        ARROW,
        pa.concat_tables([ARROW.slice(0, 1), ARROW.slice(1)]),
        ARROW.to_pandas(),
        pd.DataFrame(ROWS, index=[5, 5, 5]),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list(ROWS).select([0, 1, 2]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_kind_of_table(data: Any) -> None:
    gen, provider = echo()
    ds = chatan.augment(data, {"q": gen("{a}/{b}")})
    df = ds.generate()
    assert list(df.columns) == ["a", "b", "q"]
    assert [prompt.replace(".0", "") for prompt in sorted(provider.prompts)] == ["/y", "1/x", "3/"]
    assert list(df["b"].fillna("-")) == ["x", "y", "-"]
    assert ds.to_arrow().column_names == ["a", "b", "q"]
    assert ds.to_hf().column_names == ["a", "b", "q"]
    assert len(ds.to_hf()) == 3
    if isinstance(data, datasets.Dataset):
        assert ds.to_hf().features["a"] == data.features["a"]


def test_features_of_a_hugging_face_dataset_stay() -> None:
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["no", "yes"]), "text": datasets.Value("string")}
    )
    data = datasets.Dataset.from_dict({"label": [1, 0], "text": ["a", "b"]}, features=features)
    ds = chatan.augment(data, {"len": lambda text: len(text)})
    ds.generate()
    assert ds.to_hf().features["label"] == features["label"]


def test_some_rows_first() -> None:
    gen, provider = echo()
    ds = chatan.augment(tickets(), {"label": gen("{ticket_id} {text}")})
    pd.testing.assert_frame_equal(ds.preview(2)[["text"]], tickets()[["text"]].head(2))
    assert len(ds.preview(50)) == 5, "a preview is as long as the data"
    assert len(ds.generate(3)) == 3
    assert provider.calls == 5
    with pytest.raises(ValueError, match=r"n=6, but the data that is augmented has 5 rows"):
        ds.generate(6)


def test_when_skips_rows() -> None:
    gen, provider = echo()
    ds = chatan.augment(
        tickets(),
        {
            "label": gen("{text}"),
            "len": lambda label: len(label),
            "own": gen("own {text}", when=lambda score: score == 2.0),
            "draw": sample.choice([1, 2]),
        },
        when=lambda text: bool(text),
    )
    df = ds.generate()
    assert df["label"].isna().tolist() == [False, True, False, True, False]
    assert ds["len"].states == {"done": 3, "skipped": 2}
    assert ds["own"].states == {"done": 1, "skipped": 4}
    assert ds["draw"].states == {"done": 5}
    assert provider.calls == 4
    assert len(ds.errors) == 0


def draws(data: Any, **options: Any) -> dict[Any, Any]:
    """What each row draws, by its id."""
    gen, provider = echo(lambda prompt, attempt: prompt)
    ds = chatan.augment(
        data,
        {"u": sample.uniform(0, 1), "c": sample.function(lambda rng, size: rng.normal(size=size)),
         "q": gen("{id} {u}")},
        **options,
    )  # fmt: skip
    df = ds.generate()
    asked = dict(zip(provider.prompts, provider.draws, strict=True))
    return {id: (u, c, asked[q]) for id, u, c, q in df[["id", "u", "c", "q"]].to_numpy()}


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_rows_put_in_between_leave_the_draws_of_the_others(data: st.DataObject) -> None:
    ids = data.draw(st.permutations(range(12)))
    some = [id for id in ids if data.draw(st.booleans())]

    def frame(rows: list[int]) -> pd.DataFrame:
        return pd.DataFrame({"id": [f"r{id}" for id in rows], "value": [id / 2 for id in rows]})

    whole = draws(frame(list(ids)))
    assert len({drawn for drawn, _, _ in whole.values()}) == 12
    if some:
        assert draws(frame(some)).items() <= whole.items()
        keyed = draws(frame(some).assign(value=0.0), key="id")
        assert keyed.items() <= draws(frame(list(ids)), key="id").items()


def test_equal_rows_draw_apart_and_stay_in_their_order() -> None:
    one = pd.DataFrame({"id": ["a", "a", "b", "a"]})
    df = chatan.augment(one, {"u": sample.uniform(0, 1)}).generate()
    assert df["u"].nunique() == 4
    fewer = chatan.augment(one.iloc[:2], {"u": sample.uniform(0, 1)}).generate()
    assert fewer["u"].tolist() == df["u"].tolist()[:2]


def test_column_names_that_are_numbers() -> None:
    frame = pd.DataFrame([["x", 1], ["y", 2]], columns=[5, 0])
    gen, provider = echo()
    ds = chatan.augment(frame, {"q": gen("{5} {0}")}, key=5)
    df = ds.generate()
    assert list(df.columns) == [5, 0, "q"]
    assert sorted(provider.prompts) == ["x 1", "y 2"]
    assert len(chatan.augment(frame, {"q": gen("{5}")}, key="5").generate()) == 2


@pytest.mark.parametrize(
    ("data", "columns", "options", "fault"),
    [
        ({"a": [1]}, {"a": "x"}, {}, "the data has a column of this name already"),
        (pd.DataFrame([[1]], columns=[0]), {"0": "x"}, {}, "of this name already"),
        ({"a": [1]}, {}, {}, "nothing to add"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {"b": 1}, {}, "more than one column 'a'"),
        ({"a": [1]}, {"b": lambda aa: aa}, {}, "it needs 'aa'"),
        ({"ticket": [1]}, {"b": 1}, {"key": "tiket"}, "did you mean 'ticket'"),
        ({"a": [1], "b": [1, 2]}, {"c": 1}, {}, "not of one length: 'a' 1, 'b' 2"),
        ({" a": [1]}, {"c": 1}, {}, "begins or ends with spaces"),
    ],
)
def test_what_is_wrong_is_said(data: Any, columns: Any, options: Any, fault: str) -> None:
    with pytest.raises(SchemaError, match=fault):
        chatan.augment(data, columns, **options)


@pytest.mark.parametrize("data", [5, "text", [1, 2], None, iter([{"a": 1}])])
def test_what_is_no_table(data: Any) -> None:
    with pytest.raises(TypeError, match="is no table"):
        chatan.augment(data, {"b": 1})


@pytest.mark.parametrize(
    "data", [pd.DataFrame({"a": []}), {"a": []}, pa.table({"a": pa.array([], pa.string())})]
)
def test_no_rows_give_no_rows(data: Any) -> None:
    gen, provider = echo()
    ds = chatan.augment(data, {"q": gen("{a}"), "u": sample.uniform(0, 1)})
    df = ds.generate()
    assert list(df.columns) == ["a", "q", "u"]
    assert len(df) == len(ds.to_hf()) == provider.calls == 0


def test_failures_leave_every_row_there() -> None:
    gen, _ = echo(lambda prompt, attempt: refused() if prompt == "good" else prompt)
    ds = chatan.augment(tickets(), {"label": gen("{text}")})
    with pytest.warns(FailedCells, match="1 of 5 rows"):
        df = ds.generate()
    pd.testing.assert_frame_equal(df.drop(columns="label"), tickets())
    assert list(ds.errors["row"]) == [0]


def test_the_commonest_indexes_stay() -> None:
    values = {"a": [1, 2, 3]}
    days = pd.date_range("2024-01-01", periods=3, tz="Europe/Paris", freq="D")
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", "y"])
    for index in (days, pairs, pd.RangeIndex(10, 4, -2), pd.Index([1, 1, 1]), None):
        frame = pd.DataFrame(values, index=index)
        df = chatan.augment(frame, {"b": lambda a: a + 1}).generate()
        pd.testing.assert_index_equal(df.index, frame.index)
        assert df["b"].tolist() == [2, 3, 4]
