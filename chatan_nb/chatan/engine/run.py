"""A run: one execution of a schema over rows, as a handle that any thread or loop may hold."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import sys
import time
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from chatan.engine.portal import Portal
from chatan.engine.scheduler import Scheduler
from chatan.engine.table import State

T = TypeVar("T")

if TYPE_CHECKING:
    from chatan.engine.table import Table


class RunCancelled(RuntimeError):
    """A run that was cancelled before its rows were finished; what is done is kept."""


class FailedCells(UserWarning):
    """A run ended with cells that failed; ``ds.errors`` says which and why."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; ``elapsed`` is in seconds, tokens are of this run alone."""

    state: Literal["waiting", "running", "paused", "done", "failed", "cancelled"]
    rows: int
    rows_done: int
    cells: dict[str, dict[str, int]]
    in_flight: int
    calls: int
    retries: int
    input_tokens: int
    output_tokens: int
    elapsed: float

    def __str__(self) -> str:
        return (
            f"{self.rows_done:,} of {self.rows:,} rows, {self.calls:,} calls sent, "
            f"{self.input_tokens + self.output_tokens:,} tokens, {self.elapsed:.1f} s "
            f"({self.state})"
        )


class Run(Generic[T]):
    """One execution of a schema over rows; it goes on in the background while it is held.

    ``await run`` in async code and notebooks, or ``run.result()`` elsewhere, wait for its end
    and give what was made. ``async for row in run`` gives each row as it is finished, as a
    dictionary. Cancelling the wait (Ctrl-C, the notebook's stop button, a task's cancellation)
    cancels the run; every finished cell is kept, and the same call goes on from there.

    >>> import chatan
    >>> run = chatan.dataset({"a": "x"}).start(3)
    >>> len(run.result()), run.progress.rows_done
    (3, 3)
    """

    def __init__(
        self,
        portal: Portal,
        table: Table,
        rows: range,
        collect: Callable[[], T],
        advice: str,
        home: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._portal = portal
        self._table = table
        self._rows = rows
        self._collect = collect
        self._advice = advice
        self._scheduler: Scheduler | None = None
        self._result: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._watchers: deque[Callable[[], object]] = deque()
        self._began = time.monotonic()
        self._ended: float | None = None
        self._paused = False
        self._told = False
        self._home = home

    # -- for the engine, in the portal's loop

    async def execute(
        self, make: Callable[[], Scheduler], turn: contextlib.AbstractAsyncContextManager[Any]
    ) -> None:
        """When its turn comes, run a scheduler, made then, and collect what it made."""
        try:
            async with turn:
                if self.done():
                    return
                scheduler = self._scheduler = make()
                scheduler.on_change = self._changed
                if self._paused:
                    scheduler.pause(True)
                await scheduler.run()
                if scheduler.error is None:
                    value = await asyncio.to_thread(self._collect)
                    self._end(lambda: self._result.set_result(value))
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RunCancelled(self._standing())
            self._end(lambda: self._result.set_exception(failure))
            if not isinstance(error, Exception):
                raise
        finally:
            self._changed()

    def _changed(self) -> None:
        scheduler = self._scheduler
        if scheduler is not None and scheduler.error is not None:
            error = scheduler.error
            self._end(lambda: self._result.set_exception(error))
        while self._watchers:
            self._watchers.popleft()()

    def _end(self, settle: Callable[[], None]) -> None:
        if not self._result.done():
            self._ended = time.monotonic()
            settle()

    # -- for whoever holds it

    def done(self) -> bool:
        """Whether the run has ended, one way or another."""
        return self._result.done()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the end, at most ``timeout`` seconds, and give what was made.

        Raises
        ------
        TimeoutError
            If the time is up; the run goes on.
        ProviderError
            If no call could succeed: a wrong key, an unknown model, a server that is not there.
        RunCancelled
            If the run was cancelled.
        """
        if self._portal.is_current():
            raise RuntimeError("result() would wait for itself here: write `await run`")
        if self._home is not None and asyncio._get_running_loop() is self._home and not self.done():
            raise RuntimeError("result() would block the running event loop: write `await run`")
        with self._cancelling():
            value = self._result.result(timeout)
        self._conclude()
        return value

    def cancel(self) -> None:
        """Send nothing more. Calls in flight land and are kept; so is every finished cell."""
        if not self.done():
            self._portal.post(self._stop, RunCancelled(self._standing()))

    def _stop(self, error: BaseException) -> None:
        """Stop the scheduler, or end before there is one; in the portal's loop."""
        if self._scheduler is None:
            self._end(lambda: self._result.set_exception(error))
        else:
            self._scheduler.stop(error)

    def pause(self) -> None:
        """Send nothing more until ``resume()``; calls in flight land."""
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Go on after ``pause()``."""
        self._set_paused(paused=False)

    def _set_paused(self, *, paused: bool) -> None:
        self._paused = paused
        if self._scheduler is not None:
            self._portal.post(self._scheduler.pause, paused)

    @property
    def progress(self) -> Progress:
        """Where the run stands now."""
        scheduler = self._scheduler
        tallies = [] if scheduler is None else list(scheduler.tally.values())
        counts = self._table.counts(self._rows.stop)
        return Progress(
            state=self._state(),
            rows=len(self._rows),
            rows_done=0 if scheduler is None else len(scheduler.finished),
            cells={
                name: {state.name.lower(): number for state, number in column.items() if number}
                for name, column in counts.items()
            },
            in_flight=0 if scheduler is None else scheduler.in_flight.total(),
            calls=sum(tally.calls for tally in tallies),
            retries=sum(tally.errors.total() for tally in tallies),
            input_tokens=sum(tally.usage.input_tokens for tally in tallies),
            output_tokens=sum(tally.usage.output_tokens for tally in tallies),
            elapsed=(self._ended or time.monotonic()) - self._began,
        )

    def _state(self) -> Literal["waiting", "running", "paused", "done", "failed", "cancelled"]:
        if self.done():
            error = self._result.exception()
            if error is None:
                return "done"
            return "cancelled" if isinstance(error, RunCancelled) else "failed"
        if self._paused:
            return "paused"
        return "waiting" if self._scheduler is None else "running"

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        refuse_trio()
        loop = asyncio.get_running_loop()
        landed = asyncio.Event()
        self._result.add_done_callback(lambda _: _tell(loop, landed.set))
        with self._cancelling():
            await landed.wait()
        value = self._result.result()
        self._conclude()
        return value

    async def __aiter__(self) -> AsyncGenerator[dict[str, Any]]:
        refuse_trio()
        loop = asyncio.get_running_loop()
        at = 0
        while True:
            ended = self.done()
            scheduler = self._scheduler
            while scheduler is not None and at < len(scheduler.finished):
                number = scheduler.finished[at]
                at += 1
                yield self._table.row(number)
            if ended:
                await self
                return
            changed = asyncio.Event()
            self._watchers.append(functools.partial(_tell, loop, changed.set))
            if not self.done() and (scheduler is None or at >= len(scheduler.finished)):
                with self._cancelling():
                    await changed.wait()

    @contextlib.contextmanager
    def _cancelling(self) -> Generator[None]:
        """A wait that is cancelled, or interrupted, cancels the run and says how to go on."""
        try:
            yield
        except (asyncio.CancelledError, KeyboardInterrupt) as interrupt:
            if not self.done():
                self.cancel()
                interrupt.add_note(self._standing())
            raise

    def _conclude(self) -> None:
        """Say, once, that cells failed: a run never ends in silence about them."""
        if self._told:
            return
        self._told = True
        if summary := self._failure_summary():
            warnings.warn(summary, FailedCells, stacklevel=_outside())

    def _failure_summary(self) -> str | None:
        kinds: dict[tuple[str, str], int] = {}
        rows = set()
        for row, column, failure in self._table.failures(self._rows.stop):
            if row < self._rows.start:
                continue
            kinds[column, failure.kind] = kinds.get((column, failure.kind), 0) + 1
            rows.add(row)
        if not rows:
            return None
        causes = ", ".join(f"{column}: {kind} x {n}" for (column, kind), n in kinds.items())
        counts = self._table.counts(self._rows.stop).values()
        blocked = sum(column[State.BLOCKED] for column in counts)
        more = f", which blocked {blocked:,} cells more" if blocked else ""
        return (
            f"{len(rows):,} of {len(self._rows):,} rows have failed cells ({causes}){more}; "
            "see ds.errors"
        )

    def _standing(self) -> str:
        done = 0 if self._scheduler is None else len(self._scheduler.finished)
        return (
            f"stopped with {done:,} of {len(self._rows):,} rows finished; "
            f"the finished cells are kept in it: {self._advice}"
        )

    def __repr__(self) -> str:
        return f"<Run: {self.progress}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"a Run has no {name!r}: it is not the data yet; {_AWAIT}")

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(f"a Run is not the data yet; {_AWAIT}")

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError(f"a Run is not the data yet; {_AWAIT}")

    def __iter__(self) -> NoReturn:
        raise TypeError(f"a Run is not the data yet; {_AWAIT}; rows come by `async for row in run`")

    def __len__(self) -> NoReturn:
        raise TypeError(f"a Run is not the data yet; {_AWAIT}")

    def __bool__(self) -> bool:
        return True


_AWAIT = "write `df = await ds.generate(...)`, or in a script `run.result()`"


def refuse_trio() -> None:
    """Raise where trio runs: a run can neither be awaited nor waited for there."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "chatan runs on asyncio, and trio is running here: "
            "write `df = await trio.to_thread.run_sync(lambda: ds.run(n))`"
        )


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function in the loop of whoever waits, unless that loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _outside() -> int:
    """How many frames up the first code outside this package and asyncio is."""
    depth, frame = 1, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("chatan.", "asyncio")
    ):
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    return depth
