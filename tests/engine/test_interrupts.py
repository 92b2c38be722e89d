"""Runs that are cancelled, paused, interrupted or doubled: what is finished is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pandas as pd
import pytest

import chatan
from chatan import RunCancelled, sample
from engine.echo import PATIENCE, EchoProvider, echo, generator, later, until
from servers import LanguageModelServer


def chain(provider: EchoProvider, n: int, concurrency: int = 8) -> chatan.Dataset:
    gen = generator(provider, concurrency)
    numbers = sample.from_dataset({"n": list(range(n))}, "n", order="sequential")
    return chatan.dataset({"n": numbers, "q": gen("q{n}"), "a": gen("a{q}")})


def test_cancel_keeps_what_is_finished_and_what_was_in_flight() -> None:
    provider = EchoProvider(hold=("q50",))
    ds = chain(provider, 200)
    run = ds.start(200)
    provider.wait_for("q50")
    run.cancel()
    with pytest.raises(
        RunCancelled, match=r"of 200 rows finished; .*: ds\.generate\(200\) goes on"
    ):
        run.result(PATIENCE)
    assert run.progress.state == "cancelled"
    provider.let_go()
    assert ds.generate(200).notna().all(axis=None)
    assert provider.calls == 400, "calls that were in flight landed and were kept"
    run.cancel()  # after its end: nothing happens
    assert run.progress.state == "cancelled"


@pytest.mark.filterwarnings("ignore::chatan.FailedCells")
def test_a_cancelled_cell_is_pending_and_its_failure_is_not_told() -> None:
    provider = EchoProvider(hold=tuple(f"q{n}" for n in range(4)))
    ds = chain(provider, 4)
    run = ds.start(4)
    provider.wait_for("q3")
    run.cancel()
    provider.let_go("q0")
    until(lambda: ds["q"].states == {"done": 1, "running": 3})
    assert ds["a"].states == {"pending": 4}
    assert len(ds.errors) == 0
    provider.let_go()
    until(lambda: ds["q"].states == {"done": 4})
    assert list(ds.to_pandas()["a"].isna()) == [True] * 4
    assert ds.generate(4).notna().all(axis=None)
    assert provider.calls == 8


async def test_cancelling_the_task_that_waits_cancels_the_run() -> None:
    provider = EchoProvider(hold=("q5",))
    ds = chain(provider, 40)
    run = ds.generate(40)

    async def wait() -> None:
        await run

    task = asyncio.create_task(wait())
    await asyncio.to_thread(provider.wait_for, "q5")
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert "ds.generate(40) goes on from there" in "".join(cancelled.value.__notes__)
    provider.let_go()
    with pytest.raises(RunCancelled):
        await run
    assert len(await ds.generate(40)) == 40
    assert provider.calls == 80


async def test_cancelling_the_loop_over_its_rows_cancels_the_run() -> None:
    provider = EchoProvider(hold=("q0",))
    ds = chain(provider, 1)
    run = ds.start(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(aiter(run)), 0.01)
    provider.let_go()
    with pytest.raises(RunCancelled):
        await run


async def test_a_time_limit_cancels_and_the_same_call_goes_on() -> None:
    provider = EchoProvider(hold=("q7",))
    ds = chain(provider, 30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ds.generate(30), 0.05)
    provider.let_go()
    assert len(await ds.generate(30)) == 30
    assert provider.calls == 60


def test_a_run_that_waits_for_its_turn_is_cancelled_at_once() -> None:
    provider = EchoProvider(hold=("q0",))
    ds = chain(provider, 3)
    first, second, third = ds.start(3), ds.start(3), ds.start(3)
    provider.wait_for("q0")
    assert second.progress.state == "waiting"
    second.cancel()
    with pytest.raises(RunCancelled):
        second.result(PATIENCE)
    assert not first.done()
    provider.let_go()
    assert len(first.result(PATIENCE)) == len(third.result(PATIENCE)) == 3
    assert provider.calls == 6


def test_two_runs_at_once_send_nothing_twice() -> None:
    provider = EchoProvider(latency=0.001)
    ds = chain(provider, 60)
    runs = [ds.start(n) for n in (30, 60, 10)]
    assert [len(run.result(PATIENCE)) for run in runs] == [30, 60, 10]
    assert provider.calls == 120


def test_pause_and_resume() -> None:
    provider = EchoProvider(hold=("q0", "q1"))
    ds = chain(provider, 20, concurrency=2)
    run = ds.start(20)
    provider.wait_for("q1")
    run.pause()
    run.pause()
    assert run.progress.state == "paused"
    provider.let_go()
    until(lambda: ds["q"].states.get("done") == 2)
    with pytest.raises(TimeoutError):
        run.result(0.05)
    assert provider.calls == 2, "calls in flight land, no other is sent"
    run.resume()
    assert len(run.result(PATIENCE)) == 20
    assert provider.calls == 40


def test_a_paused_run_can_be_cancelled_and_one_paused_before_it_began() -> None:
    provider = EchoProvider(hold=("q0",))
    ds = chain(provider, 2)
    first, second = ds.start(2), ds.start(2)
    second.pause()
    provider.wait_for("q0")
    first.cancel()
    provider.let_go()
    until(lambda: second.progress.state == "paused")
    with pytest.raises(TimeoutError):
        second.result(0.05)
    second.cancel()
    with pytest.raises(RunCancelled):
        second.result(PATIENCE)
    assert len(ds.run(2)) == 2


def test_what_waits_to_be_sent_again_is_given_up_when_the_run_is_cancelled() -> None:
    gen, _ = echo(lambda prompt, attempt: later("rate_limit", 300.0) if attempt == 1 else "x")
    ds = chatan.dataset({"q": gen("Q")})
    run = ds.start(3)
    until(lambda: run.progress.retries == 3)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(PATIENCE)
    until(lambda: ds["q"].states == {"pending": 3})
    assert list(ds.generate(3)["q"]) == ["x"] * 3


def test_cancel_stops_functions_that_have_not_begun() -> None:
    go, began = threading.Event(), threading.Semaphore(0)

    def slow(n: int) -> int:
        began.release()
        assert go.wait(PATIENCE)
        return n

    numbers = sample.from_dataset({"n": list(range(500))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "slow": slow})
    run = ds.start(500)
    assert began.acquire(timeout=PATIENCE)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(PATIENCE)
    go.set()
    until(lambda: not ds["slow"].states.get("running"))
    done = ds["slow"].states.get("done", 0)
    assert 1 <= done <= 64, "those that had begun are kept"
    assert list(ds.generate(500)["slow"]) == list(range(500))


def test_a_run_that_is_cancelled_while_it_draws_leaves_whole_rows() -> None:
    go, began = threading.Event(), threading.Event()

    def slow(rng: Any, size: int) -> Any:
        began.set()
        assert go.wait(PATIENCE)
        return rng.integers(0, 10**9, size)

    def columns() -> dict[str, Any]:
        return {"a": sample.uuid(), "v": sample.function(slow), "b": sample.uniform(0, 1)}

    ds = chatan.dataset({**columns(), "f": lambda v: -v})
    first = ds.start(3000)
    assert began.wait(PATIENCE)
    first.cancel()
    with pytest.raises(RunCancelled):
        first.result(PATIENCE)
    second = ds.start(3000)
    go.set()
    df = second.result(PATIENCE)
    pd.testing.assert_frame_equal(df[["a", "v", "b"]], chatan.dataset(columns()).generate(3000))
    assert list(df["f"]) == list(-df["v"])


PROGRAM = """
    import sys, chatan
    from chatan import sample
    gen = chatan.generator("openai", "sk-test-key-123", base_url=sys.argv[1], concurrency=2)
    numbers = sample.from_dataset({"n": list(range(60))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("Q {n}"), "a": gen("A {q}")})
    print("ready", flush=True)
    try:
        WAIT(ds)
    except KeyboardInterrupt as interrupt:
        print("interrupted", flush=True)
        if len(sys.argv) > 2:
            assert ds.generate(60).notna().all(axis=None)
            print(ds.usage.calls)
        else:
            raise
"""
WAYS = {
    "plain": "ds.generate(60)",
    "awaited": "import asyncio; asyncio.run(awaiting(ds))",
}
COROUTINES = """
    async def awaiting(ds):
        await ds.generate(60)
"""


def interrupted(way: str, endpoint: Any, *more: str) -> tuple[int, str, str]:
    """Run the program, interrupt it once it has sent ten calls; its code, output and errors."""
    program = textwrap.dedent(COROUTINES + PROGRAM.replace("WAIT(ds)", WAYS[way]))
    with subprocess.Popen(
        [sys.executable, "-c", program, endpoint.openai, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        until(lambda: endpoint.stats()["requests"] >= 10)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_says_how_to_go_on(llm_server: LanguageModelServer, way: str) -> None:
    endpoint = llm_server.endpoint(lat=10)
    code, out, err = interrupted(way, endpoint)
    assert code == -signal.SIGINT
    assert "interrupted" in out
    assert "KeyboardInterrupt" in err
    assert "of 60 rows finished; the finished cells are kept in it: ds.generate(60) goes on" in err
    assert endpoint.stats()["requests"] < 120, "it was stopped"


def test_after_ctrl_c_the_same_process_goes_on(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint(lat=10)
    code, out, err = interrupted("plain", endpoint, "go on")
    assert (code, err) == (0, "")
    assert out.split() == ["interrupted", "120"]
    prompts = [request["body"]["messages"][0]["content"] for request in endpoint.requests()]
    assert len(prompts) == len(set(prompts)) == 120


async def test_a_broken_loop_over_rows_leaves_the_run_to_be_awaited() -> None:
    provider = EchoProvider()
    run = chain(provider, 30).start(30)
    with contextlib.suppress(ZeroDivisionError):
        async for _ in run:
            raise ZeroDivisionError
    assert len(await run) == 30
