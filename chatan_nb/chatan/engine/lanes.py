"""The queue and limits of one model on one server with one key: how many calls fly at once."""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from chatan.engine.portal import Portal
from chatan.providers.base import Completion, Provider, ProviderError, Request

ATTEMPTS = 6
"""How often a call is sent before its failure stands, if another attempt may help."""

ANSWER_ATTEMPTS = 3
"""How often a model is asked for an answer that fits its schema."""

RATE_LIMIT_ATTEMPTS = 20
"""How often a call is sent that the service only puts off."""

UNREACHABLE_ATTEMPTS = 3
"""How often a call is sent to a server that has never answered."""

UNHEARD = frozenset({"connection", "timeout"})
"""The kinds of error of a server that is not there."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before the second attempt, doubled for each further one, and the most it becomes."""

LONGEST_WAIT = 600.0
"""A Retry-After of more seconds than this is a failure, not a wait."""

Concurrency = int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Source:
    """Whom a prompt column asks, and within which limits; what a generator gives its columns."""

    provider: Provider
    concurrency: Concurrency = "auto"
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Job:
    """One cell on its way to a model; ``failures`` counts what came of its attempts, by cause."""

    __slots__ = ("attempts", "failures", "provider", "request", "row", "step")

    def __init__(self, row: Any, step: Any, provider: Provider, request: Request) -> None:
        self.row = row
        self.step = step
        self.provider = provider
        self.request = request
        self.attempts = 0
        self.failures: dict[str, int] = {}


class Guard:
    """A fault of the engine's own inside it ends the run, rather than leave it waiting for ever."""

    __slots__ = ("_stop",)

    def __init__(self, stop: Callable[[BaseException], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self._stop(error)
            return True
        return False


class Queue(Protocol):
    """What one run wants of a lane."""

    guard: Guard

    def take(self) -> Job | None:
        """The next job that may go now, rendered; ``None`` where there is none."""

    def put_back(self, job: Job) -> None:
        """A job that is to be sent again."""

    def read(self, job: Job, completion: Completion) -> object:
        """The cell's value. Raises ``ProviderError`` where the answer is none."""

    def landed(self, job: Job, completion: Completion | None, error: ProviderError | None) -> None:
        """A call came back: no longer in flight, and with its cost, whatever becomes of it."""

    def settle(self, job: Job, value: object, error: ProviderError | None) -> None:
        """The end of a job: its value, or the failure that stands."""


class Lane:
    """Sends the jobs of all runs that ask one model, within one limit.

    ``auto`` begins with a few calls and doubles as long as answers come, as congestion control
    does; a service that says "too many" halves it once a round trip, and from there it climbs
    by one a round trip.
    """

    def __init__(self, capacity: tuple[int, int]) -> None:
        self.inflight = 0
        self._start, self._most = capacity
        self._fixed: int | None = None
        self._limit = float(self._start)
        self._threshold = float(self._most)
        self._queues: list[Queue] = []
        self._delayed: dict[asyncio.TimerHandle, tuple[Queue, Job]] = {}
        self._answered = False
        self._calm_after = 0.0
        self._pacer = Pacer()
        self._wakeup: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, source: Source) -> None:
        """Set the limits; those of the generator whose run starts last hold for all."""
        self._fixed = None if source.concurrency == "auto" else source.concurrency
        self._pacer.configure(source.requests_per_minute, source.tokens_per_minute)

    @property
    def limit(self) -> int:
        """How many calls may be in flight now."""
        return self._fixed or int(self._limit)

    def join(self, queue: Queue) -> None:
        self._queues.append(queue)

    def leave(self, queue: Queue) -> None:
        """Take a queue off; jobs of its that wait to be sent again are given back to it."""
        if queue in self._queues:
            self._queues.remove(queue)
        for timer, (owner, job) in list(self._delayed.items()):
            if owner is queue:
                timer.cancel()
                del self._delayed[timer]
                queue.put_back(job)

    def pump(self) -> None:
        """Send what may be sent; called whenever that may have become more."""
        while (taken := self._take()) is not None:
            task = asyncio.get_running_loop().create_task(self._serve(*taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> tuple[Queue, Job] | None:
        """The next job that may go now, counted as in flight; its queue goes to the end."""
        idle = 0
        while self.inflight < self.limit and idle < len(self._queues):
            if (wait := self._pacer.wait()) > 0:
                if self._wakeup is None:
                    self._wakeup = asyncio.get_running_loop().call_later(wait, self._wake)
                return None
            queue = self._queues[0]
            job: Job | None = None
            with queue.guard:
                job = queue.take()
            if len(self._queues) > 1:
                self._queues.append(self._queues.pop(0))
            if job is not None:
                self.inflight += 1
                self._pacer.sent()
                return queue, job
            idle += 1
        return None

    async def _serve(self, queue: Queue, job: Job) -> None:
        """A place in flight: sends a job, and the next, as long as there is one."""
        taken: tuple[Queue, Job] | None = (queue, job)
        while taken is not None:
            await self._send(*taken)
            taken = self._take()
            if self.inflight < self.limit:
                self.pump()

    def _wake(self) -> None:
        self._wakeup = None
        self.pump()

    async def _send(self, queue: Queue, job: Job) -> None:
        completion: Completion | None = None
        error: ProviderError | None = None
        value: object = None
        job.attempts += 1
        try:
            completion = await job.provider.complete(job.request)
            self._answered = True
            self._climb()
            self._pacer.used(completion.usage.input_tokens + completion.usage.output_tokens)
            value = queue.read(job, completion)
        except ProviderError as failure:
            error = failure
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the portal is closed; else a provider's own client gave up
            error = ProviderError("the call was given up", kind="connection", scope="later")
        except Exception as failure:
            error = ProviderError(
                f"{type(failure).__name__}: {failure}", kind="bad_request", scope="cell"
            )
        finally:
            self.inflight -= 1
        with queue.guard:
            queue.landed(job, completion, error)
            if error is None:
                queue.settle(job, value, None)
            elif (delay := self._retry_in(job, error)) is None:
                queue.settle(job, None, error)
            elif delay == 0:
                job.request.draw += 1  # or a model that repeats itself would be asked in vain
                queue.put_back(job)
            else:
                self._delay(delay, queue, job)

    def _delay(self, delay: float, queue: Queue, job: Job) -> None:
        def again() -> None:
            del self._delayed[timer]
            queue.put_back(job)
            self.pump()

        timer = asyncio.get_running_loop().call_later(delay, again)
        self._delayed[timer] = (queue, job)

    def _retry_in(self, job: Job, error: ProviderError) -> float | None:
        """Seconds until the job is sent again, or ``None`` where its failure stands."""
        # each cause has attempts of its own: a call that was put off has not been tried yet
        cause = error.kind if error.kind in {"invalid_answer", "rate_limit"} else error.scope
        times = job.failures[cause] = job.failures.get(cause, 0) + 1
        if error.kind == "invalid_answer":
            return 0.0 if times < ANSWER_ATTEMPTS else None
        if error.scope != "later":
            return None
        if error.kind == "rate_limit":
            self._back_off()
            most = RATE_LIMIT_ATTEMPTS
        elif error.status is None and error.kind in UNHEARD and not self._answered:
            most = UNREACHABLE_ATTEMPTS
            if times >= most:
                error.scope = "run"
        else:
            self._answered = self._answered or error.status is not None
            most = ATTEMPTS
        if times >= most:
            return None
        delay = float(min(FIRST_DELAY * 2 ** (times - 1), LONGEST_DELAY))
        delay *= random.uniform(0.75, 1.25)  # noqa: S311 - so that retries do not come in step
        if error.retry_after is None:
            return delay
        return None if error.retry_after > LONGEST_WAIT else max(error.retry_after, 0.05)

    def _climb(self) -> None:
        if self._fixed is None and self._limit < self._most and self.inflight >= self.limit:
            self._limit += 1.0 if self._limit < self._threshold else 1.0 / self._limit

    def _back_off(self) -> None:
        now = time.monotonic()
        if self._fixed is None and now >= self._calm_after:
            self._threshold = self._limit = max(1.0, self._limit / 2)
            self._calm_after = now + 1.0


class Pacer:
    """Requests and tokens a minute, sent evenly rather than in bursts."""

    def __init__(self) -> None:
        self._requests: float | None = None
        self._tokens: float | None = None
        self._next = 0.0
        self._balance = 0.0
        self._counted = 0.0

    def configure(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests = requests_per_minute and requests_per_minute / 60
        self._tokens = tokens_per_minute and tokens_per_minute / 60

    def wait(self) -> float:
        """Seconds until a request may be sent; 0 for now."""
        if not (self._requests or self._tokens):
            return 0.0
        now = time.monotonic()
        wait = self._next - now if self._requests else 0.0
        if self._tokens:
            # a second's worth may be saved up; what an answer used is known only afterwards
            self._balance = min(self._tokens, self._balance + (now - self._counted) * self._tokens)
            self._counted = now
            if self._balance < 0:
                wait = max(wait, -self._balance / self._tokens)
        return wait

    def sent(self) -> None:
        if self._requests:
            # a late timer may be made up for, by a tenth of a second's worth at most
            self._next = max(self._next, time.monotonic() - 0.1) + 1 / self._requests

    def used(self, tokens: int) -> None:
        self._balance -= tokens


_lanes: weakref.WeakKeyDictionary[Portal, dict[Hashable, Lane]] = weakref.WeakKeyDictionary()


def lane_for(portal: Portal, source: Source, model: str) -> Lane:
    """The lane of a model: one for all generators with the same server and key."""
    provider = source.provider
    portal.closers.add(provider.aclose)
    lanes = _lanes.setdefault(portal, {})
    key = (provider.kind, provider.identity, model)
    if key not in lanes:
        lanes[key] = Lane(provider.capacity)
    lanes[key].configure(source)
    return lanes[key]
