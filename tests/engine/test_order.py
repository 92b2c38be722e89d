"""Which cell goes next: no barriers, nothing idle, earliest row and deepest column first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest

import chatan
from chatan import sample
from chatan.providers.base import Completion, Usage
from engine.echo import PATIENCE, EchoProvider, echo, generator, until


def numbered(n: int) -> Any:
    return sample.from_dataset({"n": list(range(n))}, "n", order="sequential")


@pytest.mark.parametrize("depth", [1, 3])
async def test_one_stuck_call_keeps_nobody_else(depth: int) -> None:
    gen, provider = echo(hold=("c0 0",), concurrency=4)
    columns: dict[str, Any] = {"n": numbered(1500), "c0": gen("c0 {n}")}
    for level in range(1, depth):
        columns[f"c{level}"] = gen(f"c{level} {{c{level - 1}}}")
    run = chatan.dataset(columns).start(1500)
    finished = 0
    async for row in run:
        finished += 1
        if finished == 1499:
            assert not run.done()
            provider.let_go()
        assert row["n"] != 0 or finished == 1500
    assert finished == 1500
    assert provider.calls == 1500 * depth


def test_a_stuck_column_keeps_no_other_column() -> None:
    gen, provider = echo(hold=tuple(f"slow {n}" for n in range(3)))
    columns = {"n": numbered(3), "slow": gen("slow {n}"), "quick": gen("quick {n}")}
    columns["after"] = gen("after {quick}")
    ds = chatan.dataset(columns)
    run = ds.start(3)
    for n in range(3):
        provider.wait_for(f"slow {n}")
    until(lambda: ds["after"].states == {"done": 3})
    assert ds["slow"].states == {"running": 3}
    provider.let_go()
    run.result(PATIENCE)


async def test_the_first_row_is_finished_long_before_the_last_is_sent() -> None:
    gen, provider = echo(concurrency=4, latency=0.001)
    ds = chatan.dataset({"n": numbered(300), "a": gen("{n}"), "b": gen("{a}"), "c": gen("{b}")})
    async for row in ds.generate(300):
        if row["n"] == 0:
            assert provider.calls < 450
    assert provider.prompts.index("<<0>>") < 20, "it had its three calls among the first"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_earliest_row_first_and_in_a_row_the_deepest_column(concurrency: int) -> None:
    gen, provider = echo(concurrency=concurrency)
    columns = {"n": numbered(30), "a": gen("a{n}"), "b": gen("b{a}"), "wide": gen("w{n}")}
    chatan.dataset(columns).generate(30)
    asked = [prompt.strip("<>") for prompt in provider.prompts]
    if concurrency == 1:
        assert asked[:6] == ["w0", "a0", "b<a0", "w1", "a1", "b<a1"]
    rows = [int("".join(filter(str.isdigit, prompt))) for prompt in asked]
    assert all(abs(row - at / 3) <= concurrency + 1 for at, row in enumerate(rows))


def test_nothing_is_idle_while_a_cell_is_ready() -> None:
    """A service that answers only when all eight places are taken is never left waiting."""
    waiting: deque[asyncio.Future[None]] = deque()

    class Demanding(EchoProvider):
        async def complete(self, request: Any) -> Any:
            waiting.append(asyncio.get_running_loop().create_future())
            mine = waiting[-1]
            answered = await super().complete(request)
            if self.calls > 180:  # in the end fewer than eight cells are left
                while waiting:
                    waiting.popleft().set_result(None)
            elif len(waiting) == 8:
                waiting.popleft().set_result(None)
            await mine
            return answered

    gen = generator(Demanding(), 8)
    ds = chatan.dataset({"n": numbered(100), "a": gen("a{n}"), "b": gen("b{a}")})
    assert len(ds.start(100).result(PATIENCE)) == 100


async def test_a_fixed_concurrency_is_used_at_once_and_never_exceeded() -> None:
    gen, provider = echo(concurrency=20, hold=tuple(f"{n}" for n in range(20)))
    run = chatan.dataset({"n": numbered(60), "q": gen("{n}")}).start(60)
    for n in range(20):
        provider.wait_for(f"{n}")
    assert run.progress.in_flight == provider.calls == 20
    provider.let_go()
    await run
    assert provider.most_in_flight == 20


def test_runs_of_two_datasets_share_the_lane_of_their_model() -> None:
    provider = EchoProvider(latency=0.001)
    gen = generator(provider, 5)
    runs = [chatan.dataset({"n": numbered(40), "q": gen(f"{i} {{n}}")}).start(40) for i in range(3)]
    for run in runs:
        assert len(run.result(PATIENCE)) == 40
    assert provider.most_in_flight == 5
    assert provider.calls == 120
    order = [int(prompt[0]) for prompt in provider.prompts[:60]]
    assert set(order) == {0, 1, 2}, "they take turns"


def test_two_models_have_a_lane_each() -> None:
    provider = EchoProvider(latency=0.002)
    gen = generator(provider, 3)
    ds = chatan.dataset({"a": gen("a"), "b": gen("b", model="other"), "c": gen("c")})
    ds.generate(30)
    assert provider.most_in_flight == 6


async def test_auto_begins_low_and_climbs_while_answers_come() -> None:
    provider = EchoProvider(latency=0.001, capacity=(2, 64))
    ds = chatan.dataset({"n": numbered(1000), "q": generator(provider, "auto")("{n}")})
    await ds.generate(3)
    assert provider.most_in_flight == 2
    await ds.generate(1000)
    assert 32 <= provider.most_in_flight <= 64


def test_unfinished_rows_are_bounded_however_many_there_are() -> None:
    """Memory: what is admitted depends on the calls in flight, not on n."""
    gen, provider = echo(hold=("a 0",), concurrency=1)
    drawn: list[int] = []
    columns = {"n": numbered(60_000), "a": gen("a {n}"), "b": lambda n: drawn.append(n)}
    run = chatan.dataset(columns).start(60_000)
    provider.wait_for("a 0")
    until(lambda: len(drawn) >= 512)
    with pytest.raises(TimeoutError):
        run.result(0.1)
    assert len(drawn) <= 1024
    run.cancel()
    provider.let_go()
    with pytest.raises(chatan.RunCancelled):
        run.result(PATIENCE)


def test_requests_and_tokens_per_minute_hold() -> None:
    """Twenty requests a second, a tenth of a second's worth saved up; 400 tokens, a second's."""
    cases: list[tuple[dict[str, float], int, float]] = [
        ({"requests_per_minute": 1200.0}, 12, 11 / 20 - 0.1),
        ({"tokens_per_minute": 24_000.0}, 30, (30 * 20 - 400 - 20) / 400),
    ]
    for limits, n, least in cases:
        provider = EchoProvider(lambda prompt, attempt: Completion(prompt, Usage(5, 15)))
        gen = generator(provider, 1, **limits)
        run = chatan.dataset({"n": numbered(n), "q": gen("{n}")}).start(n)
        assert len(run.result(PATIENCE)) == n
        assert run.progress.elapsed >= least
