"""Every way to start a run and to wait for it: scripts, coroutines, threads, other loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import threading
from typing import Any

import pandas as pd
import pytest
import trio

import chatan
from chatan import Run, progress, sample
from engine.echo import PATIENCE, EchoProvider, echo, generator, refused


def small(provider: EchoProvider | None = None) -> chatan.Dataset:
    gen = generator(provider or EchoProvider())
    return chatan.dataset({"n": sample.range(1, 10**6), "q": gen("Q {n}")}, n=6)


def test_in_a_script_it_is_the_frame() -> None:
    df = small().generate()
    assert type(df) is pd.DataFrame
    assert len(df) == 6
    assert len(small().run(3)) == 3
    assert len(small().start(3).result()) == 3


async def test_in_a_coroutine_it_is_awaited() -> None:
    run = small().generate()
    assert isinstance(run, Run)
    df = await run
    assert type(df) is pd.DataFrame
    assert (await run) is df, "a run may be awaited twice"
    assert run.result() is df
    assert len(await small().preview(2)) == 2
    assert len(await small().start(4)) == 4
    gathered = await asyncio.gather(small().generate(1), asyncio.wait_for(small().generate(2), 30))
    assert [len(frame) for frame in gathered] == [1, 2]


async def test_run_blocks_inside_a_running_loop() -> None:
    assert len(small().run(3)) == 3
    assert len(small().start(3).result(PATIENCE)) == 3


async def test_a_run_is_not_the_data_yet() -> None:
    run: Any = small().generate()
    for use in (
        lambda: run.head(),
        lambda: run.to_csv("x"),
        lambda: run["q"],
        lambda: len(run),
        lambda: "q" in run,
        lambda: list(run),
    ):
        with pytest.raises((AttributeError, TypeError), match=r"df = await ds\.generate\(\.\.\.\)"):
            use()
    with pytest.raises(AttributeError):
        _ = run._repr_mimebundle_
    assert run
    assert "rows" in repr(run)
    await run


async def test_rows_come_one_by_one_as_they_are_finished() -> None:
    ds = small()
    rows = [row async for row in ds.generate(50)]
    assert sorted(row["q"] for row in rows) == sorted(ds.to_pandas()["q"])
    assert {frozenset(row) for row in rows} == {frozenset({"n", "q"})}
    again = [row async for row in ds.generate(50)]
    assert len(again) == 50, "rows that were there come too"


async def test_two_watchers_each_get_every_row() -> None:
    run = small().generate(300)

    async def count() -> int:
        return sum([1 async for _ in run])

    assert await asyncio.gather(count(), count()) == [300, 300]


async def test_rows_may_be_left_before_the_end() -> None:
    run = small().generate(100)
    async for row in run:
        assert row["q"]
        break
    assert len(await run) == 100


def test_asyncio_run_twice_in_a_row() -> None:
    ds = small()

    async def main(n: int) -> int:
        return len(await ds.generate(n))

    assert asyncio.run(main(3)) == 3
    assert asyncio.run(main(9)) == 9


def test_a_run_is_awaited_from_another_loop() -> None:
    provider = EchoProvider(hold=("Q",))
    ds = chatan.dataset({"q": generator(provider)("Q")})

    async def begin() -> Run[pd.DataFrame]:
        return ds.generate(2)  # type: ignore[return-value]

    async def wait(run: Run[pd.DataFrame]) -> int:
        provider.let_go()
        return len(await run)

    run = asyncio.run(begin())
    provider.wait_for("Q")
    assert asyncio.run(wait(run)) == 2
    assert len(run.result()) == 2


def test_a_loop_that_ends_while_it_waits_leaves_the_run_to_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gen, provider = echo(hold=("Q",))
    run = chatan.dataset({"q": gen("Q")}).start(2)

    async def wait() -> None:
        async for _ in run:
            pass

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait())
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    provider.wait_for("Q")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()  # as one does that an exception leaves half-way
    provider.let_go()
    assert len(run.result(PATIENCE)) == 2
    assert not caplog.records


def test_three_threads_at_once() -> None:
    gen, provider = echo(latency=0.001)
    ds = chatan.dataset({"n": sample.range(1, 10**6), "q": gen("Q {n}"), "a": gen("A {q}")})
    ready = threading.Barrier(3)

    def make(n: int) -> pd.DataFrame:
        ready.wait(PATIENCE)
        return ds.generate(n)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        frames = list(pool.map(make, (20, 30, 40)))
    assert [len(frame) for frame in frames] == [20, 30, 40]
    assert provider.calls == 80, "what one thread has made, the others do not make again"
    pd.testing.assert_frame_equal(frames[0], frames[2].head(20))


def test_threads_with_loops_of_their_own() -> None:
    def work(number: int) -> list[str]:
        async def main() -> list[str]:
            async def shout(q: str) -> str:
                loops.add(asyncio.get_running_loop())
                await asyncio.sleep(0)
                return q.upper()

            loops: set[Any] = set()
            gen, _ = echo()
            df = await chatan.dataset({"q": gen(f"t{number}"), "s": shout}).generate(5)
            assert loops == {asyncio.get_running_loop()}
            return list(df["s"])

        return asyncio.run(main())

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [[f"<T{number}>"] * 5 for number in range(3)]


def test_trio_is_told_what_to_write() -> None:
    ds = small()

    async def refused() -> None:
        for use in (ds.generate, ds.run, lambda: echo()[0]("Hi")({})):
            with pytest.raises(RuntimeError, match=r"await trio\.to_thread\.run_sync"):
                use()

    async def told() -> int:
        return len(await trio.to_thread.run_sync(lambda: ds.run(4)))

    trio.run(refused)
    assert trio.run(told) == 4


def test_a_run_that_was_started_elsewhere_is_not_awaited_in_trio() -> None:
    run = small().start(2)

    async def wait() -> None:
        with pytest.raises(RuntimeError, match="trio"):
            await run

    trio.run(wait)
    assert len(run.result()) == 2


def test_a_prompt_is_called_on_one_context() -> None:
    gen, provider = echo()
    ask = gen("Write about {topic}")
    assert ask({"topic": "Python"}) == "<Write about Python>"
    assert ask(topic="Rust") == "<Write about Rust>"
    assert ask({"topic": "a", "answer": "b"}) == "<Write about a>"

    async def main() -> str:
        return await ask(topic="loops")

    assert asyncio.run(main()) == "<Write about loops>"
    first, second = ask(topic="x"), ask(topic="x")
    assert first == second
    assert provider.calls == 6, "each call is a draw of its own"
    assert len(set(provider.draws)) == 6
    with pytest.raises(chatan.SchemaError, match="topic"):
        ask(tpoic="misspelt")


def test_waiting_may_be_given_up_and_the_run_goes_on() -> None:
    gen, provider = echo(hold=("Q",))
    run = chatan.dataset({"q": gen("Q")}).start(1)
    with pytest.raises(TimeoutError):
        run.result(0.01)
    assert not run.done()
    provider.let_go()
    assert len(run.result(PATIENCE)) == 1


def test_a_prompt_that_fails_on_one_context_raises() -> None:
    gen, _ = echo(lambda prompt, attempt: refused(text="No."))
    with pytest.raises(chatan.ProviderError) as caught:
        gen("Hi")()
    assert (caught.value.kind, caught.value.text) == ("refused", "No.")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_in_a_terminal_tells_how_it_goes() -> None:
    gen, provider = echo(lambda prompt, attempt: refused(), hold=("Q",))
    run = chatan.dataset({"q": gen("Q"), "s": "x"}).start(3)
    shown = Terminal()
    provider.wait_for("Q")
    threading.Timer(0.05, provider.let_go).start()
    with pytest.warns(chatan.FailedCells):
        df = progress.wait(run, shown)
    assert list(df["s"]) == ["x"] * 3
    last = shown.getvalue().strip().split("\r")[-1]
    assert "3/3" in last
    assert "3 calls, 0 in flight, 3 failed" in last
