"""Functions as columns: of every shape, in threads or on their loop, whatever they raise."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import pytest

import chatan
from chatan import FailedCells, SchemaError, sample
from engine.echo import PATIENCE, echo, until


def numbers(n: int) -> Any:
    return sample.from_dataset({"n": list(range(n))}, "n", order="sequential")


class Doubler:
    def __call__(self, n: int) -> int:
        return 2 * n

    def method(self, n: int) -> int:
        return 2 * n

    @staticmethod
    def static(n: int) -> int:
        return 2 * n

    @classmethod
    def klass(cls, n: int) -> int:
        return 2 * n


class AsyncDoubler:
    async def __call__(self, n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n


def scaled(factor: int, n: int) -> int:
    return factor * n


async def scaled_later(factor: int, n: int) -> int:
    await asyncio.sleep(0)
    return factor * n


@functools.cache
def cached(n: int) -> int:
    return 2 * n


@pytest.mark.parametrize(
    "double",
    [
        lambda n: 2 * n,
        lambda n, factor=2: factor * n,
        lambda row: 2 * row["n"],
        lambda ctx: 2 * ctx["n"],
        Doubler(),
        Doubler().method,
        Doubler.static,
        Doubler.klass,
        AsyncDoubler(),
        cached,
        functools.partial(scaled, 2),
        functools.partial(scaled_later, 2),
        chatan.function(scaled, needs=["two", "n"]),
        chatan.function(scaled_later, needs=["two", "n"]),
        chatan.function(int.__mul__, needs=["n", "two"]),
        chatan.function(max, needs=["twice", "n"]),
        chatan.function(lambda *values: sum(values), needs=["n", "n"]),
    ],
)
def test_every_shape_of_callable(double: Any) -> None:
    ds = chatan.dataset({"n": numbers(5), "two": 2, "twice": lambda n: n + n, "double": double})
    assert list(ds.generate(5)["double"]) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda *values: 1, r"needs=\[\.\.\.\]"),
        (lambda **values: 1, r"needs=\[\.\.\.\]"),
        (lambda *, n: n, r"keyword-only parameter 'n'"),
        (lambda two_: two_, "it needs 'two_', which is no column; did you mean 'two'"),
        (max, "cannot be read"),
        (chatan.function(len, needs=["nn"]), "'nn', which is no column"),
    ],
)
def test_callables_that_do_not_say_what_they_need(wrong: Any, hint: str) -> None:
    with pytest.raises(SchemaError, match=hint):
        chatan.dataset({"n": numbers(5), "two": 2, "f": wrong})


def test_what_is_no_callable() -> None:
    with pytest.raises(TypeError, match="needs a callable"):
        chatan.function("n + 1")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="when= takes a function of the row"):
        chatan.dataset({"f": chatan.function(lambda: 1, when="yes")})  # type: ignore[arg-type]


def test_the_whole_row_is_what_stands_above() -> None:
    seen: list[dict[str, Any]] = []
    gen, _ = echo()
    ds = chatan.dataset(
        {"n": numbers(2), "q": gen("{n}"), "f": lambda row: seen.append(row), "below": "x"}
    )
    ds.generate(2)
    assert seen == [{"n": 0, "q": "<0>"}, {"n": 1, "q": "<1>"}]


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raising(error: BaseException) -> Any:
    def function(n: int) -> int:
        if n == 1:
            raise error
        return n

    return function


def raising_later(error: BaseException) -> Any:
    async def function(n: int) -> int:
        return int(raising(error)(n))

    return function


ERRORS = [
    ValueError("bad value"),
    SystemExit(3),
    KeyboardInterrupt(),
    StopIteration(1),
    GeneratorExit(),
    asyncio.CancelledError(),
    TimeoutError(),
    ExceptionGroup("both", [ValueError("a"), TypeError("b")]),
    Broken(),
    RecursionError("too deep"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", [raising, raising_later])
@pytest.mark.parametrize("blocking", [True, False])
def test_whatever_a_function_raises_fails_its_cell_only(
    kind: Any, error: BaseException, blocking: bool
) -> None:
    ds = chatan.dataset({"n": numbers(3), "f": kind(error), "after": lambda f: f})

    async def awaited() -> Any:
        return await ds.generate(3)

    with pytest.warns(FailedCells):
        df = ds.start(3).result(PATIENCE) if blocking else asyncio.run(awaited())
    assert ds["f"].states == {"done": 2, "failed": 1}
    assert ds["after"].states == {"done": 2, "blocked": 1}
    assert list(df["after"].dropna()) == [0, 2]
    assert type(error).__name__ in ds.errors["message"][0]


def test_the_failure_names_the_line() -> None:
    ds = chatan.dataset({"n": numbers(2), "f": raising(ValueError("bad value"))})
    with pytest.warns(FailedCells):
        ds.generate(2)
    message = ds.errors["message"][0]
    assert message.startswith("ValueError: bad value (line ")
    assert message.endswith(" of function)")


def test_when_decides_and_what_needs_a_skipped_cell_is_skipped() -> None:
    gen, provider = echo()
    ds = chatan.dataset(
        {
            "n": numbers(4),
            "even": gen("even {n}", when=lambda n: n % 2 == 0),
            "len": lambda even: len(even),
            "row": gen("row {n}", when=lambda row: row["n"] > 2),
            "never": gen("never", when=lambda: False),
            "own": chatan.function(lambda n: -n, when=lambda n: n != 3),
        }
    )
    df = ds.generate(4)
    assert list(df["even"].isna()) == [False, True, False, True]
    assert df["len"].tolist()[::2] == [8, 8]
    assert ds["len"].states == ds["even"].states == {"done": 2, "skipped": 2}
    assert ds["own"].states == {"done": 3, "skipped": 1}
    assert ds["never"].states == {"skipped": 4}
    assert sorted(provider.prompts) == ["even 0", "even 2"]
    assert len(ds.errors) == 0
    ds.generate(4)
    assert provider.calls == 2, "a decision stands"


@pytest.mark.parametrize("answer", [None, "NA", [1, 2], ValueError("no")])
def test_a_when_that_cannot_be_read_is_a_failed_cell(answer: Any) -> None:
    import numpy as np
    import pandas as pd

    def when(n: int) -> Any:
        if n == 1:
            if isinstance(answer, Exception):
                raise answer
            return {"NA": pd.NA}.get(str(answer), answer if answer is None else np.array(answer))
        return True

    gen, _ = echo()
    ds = chatan.dataset({"n": numbers(3), "q": gen("{n}", when=when)})
    if answer is None:
        ds.generate(3)
        assert ds["q"].states == {"done": 2, "skipped": 1}
        return
    with pytest.warns(FailedCells):
        ds.generate(3)
    assert ds["q"].states == {"done": 2, "failed": 1}
    assert ds.errors["message"][0].startswith("when=: ")


def test_slow_functions_run_side_by_side() -> None:
    """Four cells, and the two columns of each, wait for each other: they must run at once."""
    together = threading.Barrier(8)

    def meet(n: int) -> int:
        together.wait(PATIENCE)
        return n

    def meet_too(n: int) -> int:
        return meet(n)

    ds = chatan.dataset({"n": numbers(4), "a": meet, "b": meet_too})
    assert list(ds.generate(4)["b"]) == [0, 1, 2, 3]


def test_a_stuck_function_blocks_neither_the_loop_nor_other_cells() -> None:
    go = threading.Event()

    def stuck(n: int) -> int:
        if n == 0:
            assert go.wait(PATIENCE)
        return n

    gen, _ = echo()
    ds = chatan.dataset({"n": numbers(200), "stuck": stuck, "q": gen("{n}"), "a": gen("{stuck}")})
    run = ds.start(200)
    until(lambda: run.progress.rows_done == 199)
    assert ds["q"].states == {"done": 200}
    go.set()
    run.result(PATIENCE)


async def test_async_functions_run_on_the_loop_they_were_started_in() -> None:
    loops: set[Any] = set()
    lock = asyncio.Lock()
    most = [0, 0]

    async def visit(n: int) -> int:
        loops.add(asyncio.get_running_loop())
        most[0] += 1
        most[1] = max(most)
        await asyncio.sleep(0.001)
        async with lock:
            most[0] -= 1
        return n

    ds = chatan.dataset({"n": numbers(400), "f": visit})
    run = ds.generate(400)
    with pytest.raises(RuntimeError, match="would block the running event loop: write `await run`"):
        run.result()
    df = await run
    assert list(df["f"]) == list(range(400))
    assert loops == {asyncio.get_running_loop()}
    assert 8 <= most[1] <= 256, "many at once, but not all"


async def test_async_functions_of_a_blocking_run_have_a_loop_too() -> None:
    async def visit(n: int) -> int:
        await asyncio.sleep(0)
        return n

    assert list(chatan.dataset({"n": numbers(5), "f": visit}).run(5)["f"]) == list(range(5))


def test_a_loop_that_ends_takes_its_async_cells_with_it_and_no_others() -> None:
    """What was started in a loop that is gone fails, instead of waiting for ever; it may pass."""

    async def slow(n: int) -> int:
        await asyncio.sleep(0 if hurried else 3600)
        return n

    hurried: list[bool] = []
    ds = chatan.dataset({"n": numbers(300), "f": slow, "g": lambda n: -n})

    async def main() -> Any:
        run = ds.start(300)
        while ds["f"].states.get("running", 0) < 256:
            await asyncio.sleep(0.001)
        return run

    run = asyncio.run(main())
    with pytest.warns(FailedCells, match="f: cancelled x 300"):
        df = run.result(PATIENCE)
    assert list(df["g"]) == [-n for n in range(300)]
    assert "event loop" in ds.errors["message"][299]
    hurried.append(True)
    assert list(ds.generate(300)["f"]) == list(range(300))


def test_many_cheap_calls_do_not_starve_anything() -> None:
    gen, _ = echo()
    began = time.monotonic()
    ds = chatan.dataset(
        {"n": numbers(5000), "f": lambda n: n + 1, "q": gen("{n}", when=lambda n: n == 1)}
    )
    run = ds.start(5000)
    assert list(run.result(PATIENCE)["f"]) == list(range(1, 5001))
    assert time.monotonic() - began < PATIENCE


async def test_a_function_may_make_rows_of_its_own() -> None:
    gen, provider = echo()
    ask = gen("Inner {n}")

    def inner() -> chatan.Dataset:
        return chatan.dataset({"n": numbers(3), "q": gen("{n}"), "f": lambda q: q})

    def sync(n: int) -> str:
        return str(inner().generate(2)["f"][1]) + str(ask(n=n))

    async def later(n: int) -> str:
        return str((await inner().generate(2))["f"][1]) + str(await ask(n=n))

    ds = chatan.dataset({"n": numbers(12), "sync": sync, "later": later})
    expected = [f"<1><Inner {n}>" for n in range(12)]
    assert list((await ds.generate(12))["sync"]) == list(ds.to_pandas()["later"]) == expected
    assert list(chatan.dataset({"n": numbers(3), "later": later}).run(3)["later"]) == expected[:3]
    assert provider.calls == 27 * 3


def test_a_function_that_changes_what_it_is_given_changes_no_cell() -> None:
    def empty(tags: list[str], person: dict[str, Any]) -> int:
        found = len(tags) + len(person["names"])
        tags.clear()
        person["names"].append("changed")
        return found

    ds = chatan.dataset(
        {
            "n": numbers(3),
            "tags": lambda n: ["a", "b"],
            "person": lambda n: {"names": ["Ada"]},
            "first": empty,
            "second": chatan.function(empty, needs=["tags", "person"]),
            "third": chatan.function(lambda row: row["tags"].append("c"), when=lambda row: True),
        }
    )
    df = ds.generate(3)
    assert list(df["first"]) == list(df["second"]) == [3, 3, 3]
    assert list(map(list, df["tags"])) == [["a", "b"]] * 3
    assert list(df["person"]) == [{"names": ["Ada"]}] * 3
