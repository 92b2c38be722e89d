"""A model in this process that answers with the prompt, or as a test wants; it counts its calls."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from chatan.engine.lanes import Concurrency, Source
from chatan.generator import GeneratorClient
from chatan.providers.base import (
    AnswerFormat,
    Call,
    Completion,
    Provider,
    ProviderError,
    Request,
    Usage,
)

_NUMBERS = itertools.count(1)

PATIENCE = 30.0
"""Seconds after which a test that waits for something gives up."""

Answering = Callable[[str, int], object]


class EchoProvider(Provider):
    """Answers ``answer(prompt, attempt)``: a text, a ``Completion``, or an exception to raise.

    ``latency`` is in seconds. Calls whose prompt is in ``hold`` are kept until it is let go.
    """

    kind = "echo"
    default_model = "echo"

    def __init__(
        self,
        answer: Answering | None = None,
        *,
        latency: float = 0.0,
        hold: tuple[str, ...] = (),
        capacity: tuple[int, int] = (16, 256),
    ) -> None:
        self.identity = f"echo {next(_NUMBERS)}"
        self.capacity = capacity
        self.latency = latency
        self.prompts: list[str] = []
        self.draws: list[int] = []
        self.models: Counter[str] = Counter()
        self.most_in_flight = 0
        self._in_flight = 0
        self._answer = answer or (lambda prompt, attempt: f"<{prompt}>")
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._gates: dict[str, Future[None]] = {prompt: Future() for prompt in hold}
        self._seen: dict[str, threading.Event] = {prompt: threading.Event() for prompt in hold}

    @property
    def calls(self) -> int:
        return len(self.prompts)

    def wait_for(self, prompt: str) -> None:
        """Wait until a held prompt has been asked."""
        assert self._seen[prompt].wait(PATIENCE), f"{prompt!r} was never asked"

    def let_go(self, *prompts: str) -> None:
        """Answer what is held, or some of it."""
        for prompt in prompts or tuple(self._gates):
            if not self._gates[prompt].done():
                self._gates[prompt].set_result(None)

    def prepare(
        self, model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
    ) -> Call:
        return Call(model, parameters, answer)

    async def complete(self, request: Request) -> Completion:
        prompt = request.messages[-1]["content"]
        self.prompts.append(prompt)
        self.draws.append(request.draw)
        self._attempts[prompt, request.draw] += 1
        attempt = self._attempts[prompt, request.draw]
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            await asyncio.sleep(self.latency)
            if prompt in self._gates:
                self._seen[prompt].set()
                await asyncio.shield(asyncio.wrap_future(self._gates[prompt]))
            given = self._answer(prompt, attempt)
        finally:
            self._in_flight -= 1
        if isinstance(given, BaseException):
            raise given
        if isinstance(given, Completion):
            return given
        return Completion(str(given), Usage(input_tokens=len(prompt), output_tokens=1))


def generator(
    provider: Provider, concurrency: Concurrency = 8, **limits: float | None
) -> GeneratorClient:
    """What ``chatan.generator`` gives, over a provider of a test's own."""
    return GeneratorClient(Source(provider, concurrency, **limits), "echo", {}, None)


def echo(
    answer: Answering | None = None, *, concurrency: Concurrency = 8, **options: Any
) -> tuple[GeneratorClient, EchoProvider]:
    """A generator that echoes, and its provider to count by."""
    provider = EchoProvider(answer, **options)
    return generator(provider, concurrency), provider


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread brings about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.001)


def later(kind: Any = "rate_limit", retry_after: float | None = 0.0, **more: Any) -> ProviderError:
    """A failure that another attempt may mend."""
    return ProviderError(
        f"come again ({kind})", kind=kind, scope="later", retry_after=retry_after, **more
    )


def refused(kind: Any = "refused", **more: Any) -> ProviderError:
    """A failure of one cell."""
    return ProviderError(f"not this one ({kind})", kind=kind, scope="cell", **more)


def states(dataset: Any) -> dict[str, dict[str, int]]:
    """How many cells of each column are in which state."""
    return {name: dataset[name].states for name in dataset}
