"""Samplers at work: drawn in spans or cell by cell, the same however the rows are cut; faults."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import chatan
from chatan import FailedCells, sample
from engine.echo import echo, refused, states


def samplers() -> dict[str, Any]:
    table = {"word": [f"w{n}" for n in range(500)], "size": list(range(500))}
    return {
        "id": sample.uuid(),
        "pick": sample.choice(["a", "b", "c"]),
        "weighted": sample.weighted({"x": 0.1, "y": 0.9}),
        "range": sample.range(0, 10**9),
        "normal": sample.normal(0, 1),
        "when": sample.datetime("2024-01-01", "2024-12-31"),
        "own": sample.function(lambda rng, size: rng.normal(size=size)),
        "word": sample.from_dataset(table, "word"),
        "size": sample.from_dataset(table, "size"),
        "shuffled": sample.from_dataset(table, "word", order="shuffle"),
        "by": sample.by("pick", {"a": [1, 2], "b": sample.range(3, 9), "c": 0}),
    }


WHOLE = chatan.dataset(samplers(), seed=11, name="x").generate(3000)


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    cellwise=st.booleans(),
    concurrency=st.sampled_from([1, 7, 64]),
)
def test_same_seed_same_samples(sizes: list[int], cellwise: bool, concurrency: int) -> None:
    """Whatever n, order of runs and concurrency; alone, or beside columns made cell by cell."""
    gen, _ = echo(concurrency=concurrency)
    more = {"q": gen("{id} {own}", reuse=True), "f": lambda pick: pick} if cellwise else {}
    ds = chatan.dataset({**samplers(), **more}, seed=11, name="x")
    for size in sizes if not cellwise else [size // 10 for size in sizes]:
        df = ds.generate(size)
        assert len(df) == size
        if size:
            pd.testing.assert_frame_equal(df[list(WHOLE)], WHOLE.head(size))
    assert all(df["word"].str[1:].astype(int) == df["size"]), "pairs stay paired"


def test_another_seed_gives_other_rows_and_another_name_other_uuids() -> None:
    other = chatan.dataset(samplers(), seed=12, name="x").generate(50)
    assert not any((other[name] == WHOLE[name].head(50)).all() for name in ("id", "range", "own"))
    named = chatan.dataset(samplers(), seed=11, name="y").generate(50)
    assert set(named["id"]).isdisjoint(WHOLE["id"])
    assert list(named["range"]) == list(WHOLE["range"].head(50))


@pytest.mark.parametrize("seed", [None, "1", 1.5, True, 2**64])
def test_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(TypeError, match="a seed is a whole number of 64 bits"):
        chatan.dataset({"a": "x"}, seed=seed)


def test_a_sampler_that_depends_on_cells_is_drawn_with_them() -> None:
    gen, _ = echo(lambda prompt, attempt: "de" if prompt.endswith("0") else refused())
    columns = {
        "n": sample.from_dataset({"n": list(range(20))}, "n", order="sequential"),
        "parity": lambda n: ["even", "odd"][n % 2] if n else "neither",
        "size": sample.by("parity", {"even": sample.range(0, 10**6), "odd": [-1]}),
        "double": lambda size: 2 * size,
        "land": gen("{n}"),
        "city": sample.by("land", {"de": ["Berlin"]}, default="none"),
    }
    with pytest.warns(FailedCells):
        df = chatan.dataset(columns).generate(20)
    assert df["size"].isna().tolist() == [True] + [False] * 19
    assert set(df["size"][1::2]) == {-1}
    assert list(df["double"][1:]) == [2 * size for size in df["size"][1:]]
    assert df["city"].notna().tolist() == [n % 10 == 0 for n in range(20)]
    ds = chatan.dataset(columns)
    for n in (7, 20):
        with pytest.warns(FailedCells):
            ds.generate(n)
    pd.testing.assert_frame_equal(ds.to_pandas(), df)
    assert "neither" in ds.errors["message"][0]


def test_a_sampler_that_fails_fails_its_rows_only() -> None:
    def sometimes(rng: Any, size: int) -> Any:
        values = rng.integers(0, 10, size)
        if values[0] < 5:
            raise ZeroDivisionError("a small one")
        return values

    gen, provider = echo(concurrency=64)
    ds = chatan.dataset(
        {"v": sample.function(sometimes), "q": gen("{v}", reuse=True), "other": lambda v: v + 1}
    )
    with pytest.warns(FailedCells, match=r"rows have failed cells \(v: sampler"):
        ds.generate(2048)
    failed = len(ds.errors)
    assert failed == 1024
    assert ds["v"].states == {"done": 2048 - failed, "failed": failed}
    assert states(ds)["q"] == states(ds)["other"] == {"done": 2048 - failed, "blocked": failed}
    assert "a small one" in ds.errors["message"][0]
    assert provider.calls <= 10


def test_data_that_is_used_up_says_what_to_write() -> None:
    ds = chatan.dataset(
        {
            "n": sample.from_dataset({"n": [1, 2, 3]}, "n", order="sequential"),
            "f": lambda n: -n,
            "cycled": sample.from_dataset({"n": [1, 2, 3]}, "n", order="sequential", cycle=True),
        }
    )
    with pytest.warns(FailedCells, match="2 of 5 rows"):
        df = ds.generate(5)
    assert df["n"].tolist()[:3] == [1, 2, 3]
    assert str(df["n"].dtype) == "Int64"
    assert df["cycled"].tolist() == [1, 2, 3, 1, 2]
    assert list(ds.errors["row"]) == [3, 4]
    assert "cycle=True" in ds.errors["message"][0]
    assert ds["f"].states == {"done": 3, "blocked": 2}
    assert len(ds.generate(3)) == 3


def test_samplers_of_a_function_widen_from_block_to_block() -> None:
    def values(rng: Any, size: int) -> list[Any]:
        calls.append(size)
        return [2**53 + 1] * size if len(calls) == 1 else [0.5] * size

    calls: list[int] = []
    df = chatan.dataset({"v": sample.function(values), "f": lambda v: v}).generate(2000)
    assert df["v"].tolist()[0] == float(2**53 + 1)
    assert df["v"].tolist()[-1] == 0.5
    assert df["f"].dtype == float
