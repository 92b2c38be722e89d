"""User functions: sync ones in threads, many cheap calls a hand-over; async ones on their loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SLICE = 0.005
"""Seconds after which a worker hands over what it has."""

SLOW = 0.001
"""A call that takes longer, in seconds, deserves a thread of its own."""

Outcome = tuple[Any, BaseException | None]
Done = Callable[[list[tuple[Any, Outcome]]], None]

_pool: ThreadPoolExecutor | None = None


def thread_pool() -> ThreadPoolExecutor:
    """The threads in which user functions and other blocking work of all runs go."""
    global _pool  # noqa: PLW0603 - one pool for the process
    if _pool is None:
        _pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 28), "chatan-function")
    return _pool


def _forget() -> None:
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Caller:
    """Calls one sync function for many cells without blocking the loop.

    A cheap function is called by one worker in a row, its results handed over every few
    milliseconds; as soon as a call proves slow, calls spread over the threads. ``done`` is
    called in the loop with (token, (value, error)) pairs.
    """

    def __init__(self, function: Callable[..., Any], done: Done, most: int = 32) -> None:
        self._function = function
        self._done = done
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Any, tuple[Any, ...]]] = deque()
        self._workers = 0
        self._typical = 0.0

    def submit(self, token: Any, arguments: tuple[Any, ...]) -> None:
        """Queue a call; to be called in the loop."""
        self._waiting.append((token, arguments))
        if self._workers == 0 or (self._typical > SLOW and self._workers < self._most):
            self._start()

    def clear(self) -> list[Any]:
        """Make no call that has not begun; gives the tokens of those."""
        waiting = []
        while self._waiting:
            waiting.append(self._waiting.popleft()[0])
        return waiting

    def _start(self) -> None:
        try:
            future = self._loop.run_in_executor(thread_pool(), self._work)
        except RuntimeError:  # the interpreter ends, and its threads have ended already
            return
        self._workers += 1
        watch = self._loop.call_later(4 * SLICE, self._found_slow)

        def ended(future: asyncio.Future[list[tuple[Any, Outcome]]]) -> None:
            watch.cancel()
            self._workers -= 1
            results = [] if future.cancelled() else future.result()
            if self._waiting:
                self._start()
            self._done(results)

        future.add_done_callback(ended)

    def _found_slow(self) -> None:
        """A worker has not come back: what waits behind it goes to others."""
        self._typical = max(self._typical, 4 * SLICE)
        for _ in range(min(len(self._waiting), self._most - self._workers)):
            self._start()

    def _work(self) -> list[tuple[Any, Outcome]]:
        results: list[tuple[Any, Outcome]] = []
        end = time.monotonic() + SLICE
        while True:
            try:
                token, arguments = self._waiting.popleft()
            except IndexError:
                return results
            began = time.monotonic()
            try:
                outcome: Outcome = (self._function(*arguments), None)
            except BaseException as error:
                outcome = (None, error)
            results.append((token, outcome))
            now = time.monotonic()
            self._typical += 0.2 * (now - began - self._typical)
            if now > end:
                return results
