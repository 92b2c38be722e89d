"""The one daemon thread with the one event loop in which every run of the process lives."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SWITCH_INTERVAL = 0.0005
"""Seconds a busy thread may hold the interpreter while a run is live. Each wait of the loop's
thread for a busy one lasts this long, and Python's own 5 ms would starve it."""


class Portal:
    """An event loop in a thread of its own; everything here may be called from any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.closers: set[Callable[[], Awaitable[None]]] = set()
        self._live = 0
        self._interval = 0.0
        self._thread = threading.Thread(target=self._run, name="chatan", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def is_current(self) -> bool:
        """Whether this code runs in the portal's own thread."""
        return threading.current_thread() is self._thread

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine in the portal's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def post(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the portal's loop, soon; nothing happens once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function between two steps of the loop, and wait for what it gives."""
        if self.is_current():
            return function()

        async def step() -> T:
            return function()

        return self.spawn(step()).result()

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncGenerator[None]:
        """While inside, threads take turns quickly, so that a busy cell leaves runs going."""
        if self._live == 0:
            self._interval = sys.getswitchinterval()
            sys.setswitchinterval(min(self._interval, SWITCH_INTERVAL))
        self._live += 1
        try:
            yield
        finally:
            self._live -= 1
            if self._live == 0:
                sys.setswitchinterval(self._interval)

    def close(self) -> None:
        """Close every connection and end the thread."""

        async def shut() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(close() for close in self.closers), return_exceptions=True)
            self.loop.stop()

        if self._thread.is_alive():
            self.spawn(shut())
            self._thread.join(timeout=2)


_portal: Portal | None = None
_lock = threading.Lock()


def portal() -> Portal:
    """The process's portal; made when first asked for, and anew in a forked child."""
    global _portal  # noqa: PLW0603 - the one portal of the process
    with _lock:
        if _portal is None:
            _portal = Portal()
        return _portal


def _forget() -> None:
    """In a forked child: the parent's thread is not here, and its loop is not ours."""
    global _portal, _lock
    _portal, _lock = None, threading.Lock()


def _at_exit() -> None:
    if _portal is not None:
        _portal.close()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
