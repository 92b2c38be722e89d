"""Cells that share, are drawn anew, or whose prompt changes: what runs again and what does not."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

import chatan
from chatan import FailedCells, SchemaError, sample
from engine.echo import PATIENCE, EchoProvider, echo, generator, refused, states


def numbers(n: int) -> Any:
    return sample.from_dataset({"n": list(range(n))}, "n", order="sequential")


def fresh(prompt: str, attempt: int) -> str:
    """Every call gives another answer."""
    fresh_count[0] += 1
    return f"{prompt} #{fresh_count[0]}"


fresh_count = [0]


def test_equal_prompts_are_asked_once_where_reuse_says_so() -> None:
    gen, provider = echo(fresh)
    ds = chatan.dataset(
        {
            "n": numbers(40),
            "parity": lambda n: "odd" if n % 2 else "even",
            "about": gen("About {parity} numbers", reuse=True),
            "again": gen("About {parity} numbers", reuse=True),
            "each": gen("About {parity} numbers"),
        }
    )
    df = ds.generate(30)
    assert df["about"].nunique() == 2
    assert list(df["again"]) == list(df["about"])
    assert df["each"].nunique() == 30
    assert provider.calls == 32
    ds.generate(40)
    assert provider.calls == 42, "a later run shares them too"


def test_what_is_shared_fails_for_all_and_is_asked_once() -> None:
    gen, provider = echo(lambda prompt, attempt: refused())
    ds = chatan.dataset({"q": gen("Q", reuse=True), "a": gen("{q}")})
    with pytest.warns(FailedCells, match="10 of 10 rows"):
        ds.generate(10)
    assert provider.calls == 1
    assert states(ds) == {"q": {"failed": 10}, "a": {"blocked": 10}}


def test_shared_prompts_of_other_parameters_are_other_prompts() -> None:
    gen, provider = echo(fresh)
    ds = chatan.dataset(
        {
            "a": gen("Q", reuse=True),
            "b": gen("Q", reuse=True, temperature=0.5),
            "c": gen("Q", reuse=True, model="other"),
            "d": gen("Q", reuse=True, system="Terse."),
            "e": gen("Q", reuse=True, schema=["Q #5", "x"]),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedCells)
        ds.generate(5)
    assert len(set(provider.prompts)) == 1
    assert provider.calls >= 5
    assert all(ds[name].states == {"done": 5} for name in "abcd")


def test_columns_that_ask_the_same_are_draws_of_their_own() -> None:
    gen, provider = echo()
    chatan.dataset({"a": gen("Q"), "b": gen("Q"), "c": gen("Q", temperature=1.0)}).generate(5)
    assert len(set(zip(provider.prompts, provider.draws, strict=True))) == 10


def test_regenerate_draws_one_cell_anew_and_what_depends_on_it() -> None:
    gen, provider = echo(fresh)
    ds = chatan.dataset(
        {
            "n": numbers(9),
            "q": gen("Q {n}"),
            "a": gen("A {q}"),
            "len": lambda a: len(a),
            "beside": gen("B {n}"),
        }
    )
    before = ds.generate(5)
    for row in (3, 0):
        calls = provider.calls
        after = ds.regenerate(row, "q")
        assert provider.calls == calls + 2
        assert len(after) == 5, "it gives the whole table"
        assert after["q"][row] != before["q"][row]
        assert after["q"][row] in after["a"][row]
        assert list(after["beside"]) == list(before["beside"])
        assert list(after["q"].drop([0, 3])) == list(before["q"].drop([0, 3]))
    again = ds.generate(5)
    assert list(again["q"]) == list(after["q"]), "a new draw stays"
    asked = [
        (prompt, draw)
        for prompt, draw in zip(provider.prompts, provider.draws, strict=True)
        if prompt == "Q 3"
    ]
    assert len(set(asked)) == 2


def test_regenerate_what_cannot_be() -> None:
    gen, _ = echo()
    ds = chatan.dataset({"n": numbers(9), "q": gen("Q {n}")})
    ds.generate(2)
    with pytest.raises(IndexError, match="2 rows have been generated"):
        ds.regenerate(2, "q")
    with pytest.raises(IndexError):
        ds.regenerate(-1, "q")
    with pytest.raises(KeyError, match="did you mean 'q'"):
        ds.regenerate(0, "Q")
    with pytest.raises(ValueError, match="no cell of it is made anew"):
        ds.regenerate(0, "n")


def test_regenerate_a_shared_answer_gives_another() -> None:
    gen, provider = echo(fresh)
    ds = chatan.dataset({"q": gen("Q", reuse=True)})
    before = ds.generate(4)["q"]
    after = ds.regenerate(2, "q")["q"]
    assert provider.calls == 2
    assert after[2] != before[2]
    assert list(after.drop(2)) == list(before.drop(2))


def test_regenerate_tries_a_permanent_failure_again() -> None:
    gen, provider = echo(lambda prompt, attempt: refused() if len(provider.prompts) <= 3 else "yes")
    ds = chatan.dataset({"q": gen("Q"), "a": gen("{q}")})
    with pytest.warns(FailedCells, match="3 of 3 rows"):
        ds.generate(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        df = ds.regenerate(1, "q")  # the failures of other rows were told already
    assert list(df["q"].isna()) == [True, False, True]
    assert states(ds) == {"q": {"done": 1, "failed": 2}, "a": {"done": 1, "blocked": 2}}


async def test_regenerate_in_async_code() -> None:
    gen, _ = echo(fresh)
    ds = chatan.dataset({"q": gen("Q")})
    before = await ds.generate(3)
    after = await ds.regenerate(1, "q")
    assert after["q"][1] != before["q"][1]
    assert list(after["q"].drop(1)) == list(before["q"].drop(1))


def test_another_prompt_runs_its_column_and_what_depends_on_it() -> None:
    gen, provider = echo()
    ds = chatan.dataset(
        {
            "n": numbers(9),
            "q": gen("Q {n}"),
            "a": gen("A {q}"),
            "len": lambda a: len(a),
            "beside": gen("B {n}"),
        }
    )
    before = ds.generate(4)
    ds["q"].prompt = "Question {n}"
    assert states(ds) == {
        "n": {"done": 4}, "q": {"stale": 4}, "a": {"stale": 4}, "len": {"stale": 4},
        "beside": {"done": 4},
    }  # fmt: skip
    assert list(ds.to_pandas()["q"]) == list(before["q"]), "the old ones stand until then"
    calls = provider.calls
    after = ds.generate(4)
    assert provider.calls == calls + 8
    assert list(after["a"]) == [f"<A <Question {n}>>" for n in range(4)]
    assert list(after["beside"]) == list(before["beside"])
    ds["a"].prompt = "Short: {n}"
    ds["a"].system = "Be brief about {n}."
    ds.generate(4)
    assert provider.calls == calls + 12
    ds["a"].prompt = "Short: {n}"
    ds["a"].system = "Be brief about {n}."
    assert ds["a"].states == {"done": 4}, "the same again is no change"
    ds["a"].system = None
    assert ds["a"].system is None
    assert ds["a"].needs == ("n",)


def test_an_edit_that_is_wrong_changes_nothing() -> None:
    gen, provider = echo()
    ds = chatan.dataset({"n": numbers(9), "q": gen("Q {n}"), "a": gen("A {q}")})
    ds.generate(2)
    for wrong, fault in [("{m}", "names no column"), ("{a}", "circle"), (5, "a prompt is a text")]:
        with pytest.raises((SchemaError, TypeError), match=fault):
            ds["q"].prompt = wrong
    with pytest.raises(AttributeError, match="is a sampler column without a prompt"):
        ds["n"].prompt = "x"
    with pytest.raises(KeyError, match="did you mean 'q'"):
        ds["Q"].prompt = "x"
    assert ds["q"].prompt == "Q {n}"
    ds.generate(2)
    assert provider.calls == 4


def test_an_edit_in_the_middle_leaves_stale_cells_and_never_an_unmarked_mix() -> None:
    provider = EchoProvider(hold=("Q 5",))
    gen = generator(provider, 2)
    ds = chatan.dataset({"n": numbers(40), "q": gen("Q {n}"), "a": gen("A {q}")})
    run = ds.start(40)
    provider.wait_for("Q 5")
    ds["q"].prompt = "New {n}"
    provider.let_go()
    old = run.result(PATIENCE)
    assert set(ds["q"].states) == set(ds["a"].states) == {"stale"}
    assert list(old["q"]) == [f"<Q {n}>" for n in range(40)], "the run ends as it began"
    new = ds.generate(40)
    assert list(new["a"]) == [f"<A <New {n}>>" for n in range(40)]
    assert states(ds) == {"n": {"done": 40}, "q": {"done": 40}, "a": {"done": 40}}
    assert provider.calls == 160


def test_an_edit_in_the_middle_holds_for_the_run_that_waits() -> None:
    provider = EchoProvider(hold=("Q 0",))
    gen = generator(provider)
    ds = chatan.dataset({"n": numbers(9), "q": gen("Q {n}")})
    first, second = ds.start(3), ds.start(5)
    provider.wait_for("Q 0")
    ds["q"].prompt = "New {n}"
    provider.let_go()
    first.result(PATIENCE)
    assert list(second.result(PATIENCE)["q"]) == [f"<New {n}>" for n in range(5)]
    assert ds["q"].states == {"done": 5}
    assert provider.calls == 8


@pytest.mark.filterwarnings("ignore::chatan.FailedCells")
def test_what_fails_or_is_skipped_with_an_old_prompt_is_made_with_the_new_one() -> None:
    provider = EchoProvider(
        lambda prompt, attempt: refused() if prompt.startswith("Old") else prompt, hold=("Old 0",)
    )
    gen = generator(provider, 1)
    ds = chatan.dataset(
        {
            "n": numbers(9),
            "q": gen("Old {n}"),
            "a": gen("A {q}"),
            "some": gen("S {q}", when=lambda q: q.endswith("1")),
        }
    )
    run = ds.start(3)
    provider.wait_for("Old 0")
    ds["q"].prompt = "New {n}"
    provider.let_go()
    run.result(PATIENCE)
    assert "done" not in ds["q"].states
    assert list(ds.generate(3)["a"]) == [f"A New {n}" for n in range(3)]
    assert states(ds)["some"] == {"done": 1, "skipped": 2}
    assert len(ds.errors) == 0


async def test_a_cell_that_is_regenerated_while_it_is_asked_is_asked_again() -> None:
    gen, provider = echo(fresh, hold=("Q 1",))
    ds = chatan.dataset({"n": numbers(3), "q": gen("Q {n}"), "a": gen("A {q}")})
    run = ds.start(3)
    await asyncio.to_thread(provider.wait_for, "Q 1")
    again = ds.regenerate(1, "q")
    provider.let_go()
    before, after = await run, await again
    draws = [d for p, d in zip(provider.prompts, provider.draws, strict=True) if p == "Q 1"]
    assert len(draws) == len(set(draws)) == 2
    assert before["a"][1] != after["a"][1]
    assert list(before["a"].drop(1)) == list(after["a"].drop(1))
    assert states(ds) == {"n": {"done": 3}, "q": {"done": 3}, "a": {"done": 3}}


def test_a_handle_says_what_a_column_is() -> None:
    gen, _ = echo()
    ds = chatan.dataset({"n": numbers(9), "q": gen("Q {n}", system="S"), "f": lambda q: q, "s": 1})
    assert [ds[name].kind for name in ds] == ["sampler", "prompt", "function", "static"]
    assert ds["f"].needs == ("q",)
    assert ds["q"].system == "S"
    assert repr(ds["q"]) == "<column 'q': prompt 'Q {n}'>"
    assert "q" in ds
    assert "x" not in ds
