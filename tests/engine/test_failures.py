"""What fails on the way to a service: sorted, tried again where that helps, told in the end."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

import chatan
from chatan import FailedCells, ProviderError, sample
from chatan.engine.lanes import ATTEMPTS, RATE_LIMIT_ATTEMPTS
from engine.echo import PATIENCE, EchoProvider, echo, generator, later, refused, states, until
from servers import Endpoint, LanguageModelServer

KEY = "sk-test-key-123"
ROWS = 4


def asking(endpoint: Endpoint, **options: Any) -> chatan.Dataset:
    """Two columns in a chain, one beside them, and a function after each."""
    gen = chatan.generator("openai", KEY, base_url=endpoint.openai, concurrency=3, **options)
    return chatan.dataset(
        {
            "n": sample.from_dataset({"n": list(range(1000))}, "n", order="sequential"),
            "q": gen("Question {n}"),
            "a": gen("Answer {q}"),
            "len": lambda a: len(a),
            "beside": lambda n: n + 1,
        }
    )


@pytest.mark.parametrize(
    ("fault", "kind", "attempts"),
    [
        ("500", "server", ATTEMPTS),
        ("503", "server", ATTEMPTS),
        ("529", "server", ATTEMPTS),
        ("408", "timeout", ATTEMPTS),
        ("truncate", "broken_answer", ATTEMPTS),
        ("badjson", "broken_answer", ATTEMPTS),
        ("html", "broken_answer", ATTEMPTS),
        ("wrongtype", "broken_answer", ATTEMPTS),
        ("nonutf8", "broken_answer", ATTEMPTS),
        ("emptychoices", "empty", 1),
        ("null_content", "empty", 1),
        ("refusal", "refused", 1),
        ("filter", "refused", 1),
        ("contexttoolong", "too_long", 1),
        ("badrequest", "bad_request", 1),
    ],
)
@pytest.mark.usefixtures("quick_retries")
def test_each_fault_is_a_failed_cell_of_its_kind(
    llm_server: LanguageModelServer, fault: str, kind: str, attempts: int
) -> None:
    ds = asking(llm_server.endpoint(fault=fault))
    with pytest.warns(FailedCells, match=rf"4 of 4 rows have failed cells \(q: {kind} x 4\)"):
        df = ds.generate(ROWS)
    errors = ds.errors
    assert list(errors.columns) == ["row", "column", "kind", "message", "attempts", "answer"]
    assert list(errors["row"]) == list(range(ROWS))
    assert set(errors["column"]) == {"q"}
    assert set(errors["kind"]) == {kind}
    assert set(errors["attempts"]) == {attempts}
    assert all(message and KEY not in message for message in errors["message"])
    assert states(ds) == {
        "n": {"done": ROWS},
        "q": {"failed": ROWS},
        "a": {"blocked": ROWS},
        "len": {"blocked": ROWS},
        "beside": {"done": ROWS},
    }
    assert list(df["beside"]) == [1, 2, 3, 4]
    assert df[["q", "a", "len"]].isna().all(axis=None)
    assert ds.usage.calls == ROWS * attempts


@pytest.mark.parametrize("fault", ["500", "429", "reset", "badjson", "truncate", "503"])
@pytest.mark.usefixtures("quick_retries")
def test_what_passes_is_tried_again_within_the_run(
    llm_server: LanguageModelServer, fault: str
) -> None:
    endpoint = llm_server.endpoint(fault=fault, times=2)
    ds = asking(endpoint)
    df = ds.generate(ROWS)
    assert df.notna().all(axis=None)
    assert len(ds.errors) == 0
    assert len(endpoint.requests()) == 3 * 2 * ROWS
    if fault != "reset":  # a connection that breaks when it is used again is replaced at once
        assert ds.usage.calls == 3 * 2 * ROWS
        assert ds.usage.total.errors.total() == 2 * 2 * ROWS


@pytest.mark.usefixtures("quick_retries")
def test_every_fault_at_once_and_no_row_is_lost(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint(e429=10, e500=5, erst=5, etrunc=5, ebad=5, lat=1)
    gen = chatan.generator("openai", KEY, base_url=endpoint.openai, concurrency=32)
    numbers = sample.from_dataset({"n": list(range(300))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("Q {n}"), "a": gen("A {q}")})
    df = ds.generate(300)
    assert df.notna().all(axis=None)
    assert ds.usage.calls - ds.usage.total.errors.total() == 600, "each cell is answered once"
    assert endpoint.stats()["most_running"] <= 32
    assert endpoint.stats()["429"] > 20


@pytest.mark.usefixtures("quick_retries")
def test_a_later_run_tries_again_what_may_pass_and_nothing_else(
    llm_server: LanguageModelServer,
) -> None:
    passing = asking(llm_server.endpoint(fault="500", times=ATTEMPTS))
    with pytest.warns(FailedCells):
        passing.generate(ROWS)
    assert passing.usage.calls == ATTEMPTS * ROWS
    with pytest.warns(FailedCells, match=r"a: server x 4"):
        passing.generate(ROWS)  # q is there now; a fails in its turn
    assert passing.generate(ROWS).notna().all(axis=None)
    assert len(passing.errors) == 0

    endpoint = llm_server.endpoint(fault="refusal")
    standing = asking(endpoint)
    for _ in range(3):
        with pytest.warns(FailedCells):
            standing.generate(ROWS)
    assert len(endpoint.requests()) == ROWS, "a refusal is not paid for twice"
    assert states(standing)["a"] == {"blocked": ROWS}


def test_the_last_answer_is_kept_with_the_failure() -> None:
    gen, _ = echo(lambda prompt, attempt: refused(text=f"I would rather not ({attempt})"))
    ds = chatan.dataset({"q": gen("Q")})
    with pytest.warns(FailedCells):
        ds.generate(2)
    assert list(ds.errors["answer"]) == ["I would rather not (1)"] * 2


def test_failed_cells_are_told_once_and_where_the_user_is() -> None:
    gen, _ = echo(lambda prompt, attempt: refused())
    ds = chatan.dataset({"q": gen("Q")})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = ds.start(3)
        run.result()
        run.result()
    assert [str(warning.message) for warning in caught] == [
        "3 of 3 rows have failed cells (q: refused x 3); see ds.errors"
    ]
    assert caught[0].category is FailedCells
    assert caught[0].filename == __file__


async def test_failures_are_told_in_async_code_too(llm_server: LanguageModelServer) -> None:
    gen, _ = echo(lambda prompt, attempt: refused())
    with pytest.warns(FailedCells) as told:
        await chatan.dataset({"q": gen("Q")}).generate(3)
    assert [warning.filename for warning in told] == [__file__]
    run = asking(llm_server.endpoint(fault="401")).generate(5)
    with pytest.raises(ProviderError, match="key"):
        await run
    with pytest.raises(ProviderError, match="key"):
        [row async for row in run]
    with pytest.raises(ProviderError, match="key"):
        run.result()
    assert run.progress.state == "failed"


@pytest.mark.parametrize("fault", ["401", "403", "402", "404", "quota", "noroute", "echo"])
def test_what_no_call_can_mend_ends_the_run_at_once(
    llm_server: LanguageModelServer, fault: str
) -> None:
    endpoint = llm_server.endpoint(fault=fault, lat=5)
    ds = asking(endpoint)
    with pytest.raises(ProviderError) as caught:
        ds.generate(500)
    assert caught.value.scope == "run"
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(endpoint.requests()) <= 3, "as many as fly at once"
    assert len(ds.errors) == 0, "it is no fault of the cells"
    until(lambda: set(states(ds)["q"]) == {"pending"})


def test_after_a_wrong_key_the_right_one_goes_on(llm_server: LanguageModelServer) -> None:
    right = llm_server.endpoint(lat=1)
    wrong = llm_server.endpoint(fault="401", lat=1)
    endpoints = [right]

    class Turning(EchoProvider):
        """Asks a service whose key is changed on the way."""

        async def complete(self, request: Any) -> Any:
            if self.calls == 20:
                endpoints[:] = [wrong]
            self.prompts.append(request.messages[-1]["content"])
            gen = chatan.generator("openai", KEY, base_url=endpoints[0].openai)
            try:
                return await gen.provider.complete(
                    type(request)(
                        gen.provider.prepare("m", {}, None), request.messages, request.draw
                    )
                )
            finally:
                await gen.provider.aclose()

    gen = generator(Turning(), 4)
    numbers = sample.from_dataset({"n": list(range(100))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("Q {n}"), "a": gen("A {q}")})
    with pytest.raises(ProviderError, match="key"):
        ds.generate(30)
    kept = len(right.requests())
    assert 20 <= kept <= 24
    assert len(wrong.requests()) <= 4
    held = ds.to_pandas()
    assert held["q"].notna().sum() + held["a"].notna().sum() == kept
    endpoints[:] = [right]
    assert ds.generate(30).notna().all(axis=None)
    assert len(right.requests()) == 60, "what was done is not asked again"


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_is_not_there(unused_tcp_port: int) -> None:
    gen = chatan.generator("openai", KEY, base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    ds = chatan.dataset({"q": gen("Q")})
    with pytest.raises(ProviderError, match=r"no connection to http://127\.0\.0\.1") as caught:
        ds.generate(200)
    assert caught.value.kind == "connection"
    until(lambda: ds["q"].states == {"pending": 200})


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_was_there_and_goes_away_fails_its_cells_only() -> None:
    gen, _ = echo(lambda prompt, attempt: "here" if prompt == "0" else later("connection", None))
    numbers = sample.from_dataset({"n": list(range(3))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("{n}")})
    ds.generate(1)
    with pytest.warns(FailedCells, match=r"2 of 3 rows .* connection x 2"):
        ds.generate(3)
    assert list(ds.errors["attempts"]) == [ATTEMPTS] * 2


def test_429_waits_as_long_as_it_is_told(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint(fault="429", times=1, ra=0.3)
    ds = asking(endpoint)
    run = ds.start(2)
    assert run.result().notna().all(axis=None)
    assert run.progress.elapsed > 2 * 0.3, "twice: q, then a"
    assert run.progress.retries == 4


def test_a_wait_of_hours_is_a_failure_not_a_wait() -> None:
    gen, _ = echo(lambda prompt, attempt: later("rate_limit", 7200.0))
    ds = chatan.dataset({"q": gen("Q")})
    with pytest.warns(FailedCells, match="rate_limit"):
        ds.generate(2)
    assert list(ds.errors["attempts"]) == [1, 1]


def test_what_waits_to_be_sent_again_takes_no_place() -> None:
    """One place in flight; the first call waits long for its second attempt, the others go."""

    def answer(prompt: str, attempt: int) -> object:
        return later("rate_limit", 0.5) if (prompt, attempt) == ("0", 1) else prompt

    gen, provider = echo(answer, concurrency=1)
    numbers = sample.from_dataset({"n": list(range(50))}, "n", order="sequential")
    chatan.dataset({"n": numbers, "q": gen("{n}")}).generate(50)
    assert provider.prompts == [*map(str, range(50)), "0"]


@pytest.mark.usefixtures("quick_retries")
def test_patience_with_a_limit_does_not_use_up_other_attempts() -> None:
    """A service that puts a call off ten times, then breaks three times, then answers."""

    def answer(prompt: str, attempt: int) -> object:
        if attempt <= 10:
            return later("rate_limit")
        return later("server") if attempt <= 13 else prompt

    gen, provider = echo(answer)
    assert list(chatan.dataset({"q": gen("Q")}).generate(1)["q"]) == ["Q"]
    assert provider.calls == 14


@pytest.mark.usefixtures("quick_retries")
def test_a_limit_that_never_ends_is_told_in_the_end() -> None:
    gen, provider = echo(lambda prompt, attempt: later("rate_limit"))
    ds = chatan.dataset({"q": gen("Q")})
    with pytest.warns(FailedCells, match="rate_limit x 1"):
        ds.generate(1)
    assert provider.calls == RATE_LIMIT_ATTEMPTS == ds.errors["attempts"][0]


@pytest.mark.parametrize("error", [RuntimeError("own bug"), KeyError("x"), OSError("disk")])
def test_a_fault_of_a_provider_loses_no_cell(error: Exception) -> None:
    gen, _ = echo(lambda prompt, attempt: error if prompt == "1" else prompt)
    numbers = sample.from_dataset({"n": list(range(3))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("{n}")})
    with pytest.warns(FailedCells):
        df = ds.generate(3)
    assert list(df["q"].dropna()) == ["0", "2"]
    assert type(error).__name__ in ds.errors["message"][0]


@pytest.mark.usefixtures("quick_retries")
def test_a_provider_whose_client_gives_up_loses_no_cell() -> None:
    def answer(prompt: str, attempt: int) -> object:
        return asyncio.CancelledError() if prompt == "1" or attempt == 1 else prompt

    gen, _ = echo(answer)
    numbers = sample.from_dataset({"n": list(range(3))}, "n", order="sequential")
    ds = chatan.dataset({"n": numbers, "q": gen("{n}")})
    assert len(ds.generate(1)) == 1
    with pytest.warns(FailedCells):
        assert len(ds.start(3).result(PATIENCE)) == 3
    assert ds["q"].states == {"done": 2, "failed": 1}
