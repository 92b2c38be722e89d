"""The one thread that does all of torch's work, and how it forms batches.

Rows wait in a queue; whenever a batch is done, the next is made of whatever is there by then:
the rows that are most like the one that has waited longest. Nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from chatan.providers.base import ProviderError
from chatan.providers.torch_batch import Row, answer
from chatan.providers.torch_model import ModelSettings, TorchModel, first_line


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """A row, and the model it is for; ``most`` is how many rows a batch may have, if said."""

    settings: ModelSettings
    row: Row
    most: int | None = None


class Worker:
    """Answers the rows it is given, in a thread that starts with the first."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[list[Job]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._gathered: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._models: dict[ModelSettings, TorchModel] = {}
        self._limits: dict[ModelSettings, int] = {}
        self._running: list[Job] = []

    def submit(self, job: Job) -> None:
        """Take a row from the running event loop; its future tells the rest.

        Rows that one turn of the loop brings are handed over together, so that they can share
        the first batch.
        """
        loop = asyncio.get_running_loop()
        gathered = self._gathered.setdefault(loop, [])
        if not gathered:
            loop.call_soon(self._hand_over, loop)
        gathered.append(job)

    def stop(self) -> None:
        """Let the thread end after the next token."""
        self._queue.put([])
        for job in self._running:
            job.row.future.cancel()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queue.put(self._gathered.pop(loop))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="chatan-torch", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        waiting: list[Job] = []
        while True:
            with suppress(Empty):
                while more := self._queue.get(block=not waiting):
                    waiting += more
                return  # an empty list is the word to stop
            waiting = [job for job in waiting if not job.row.over]
            if waiting:
                self._next_batch(waiting)

    def _next_batch(self, waiting: list[Job]) -> None:
        first = waiting[0]
        like = [job for job in waiting if job.settings == first.settings]
        try:
            model = self._model(first.settings)
        except ProviderError as error:
            for job in like:
                job.row.fail(error)
            return
        like = [job for job in like if job.row.sampling == first.row.sampling]
        like = [job for job in like if job.row.encode(model)]
        if not like:
            return
        most = min(first.most or model.batch_size, self._limits.get(first.settings, 1 << 20))
        target = len(like[0].row.prompt)
        like.sort(key=lambda job: abs(len(job.row.prompt) - target))
        self._running = [job for job in like[:most] if job.row.begin(model)]
        if self._answer(model, [job.row for job in self._running]):
            self._limits[first.settings] = len(self._running) // 2

    def _answer(self, model: TorchModel, rows: list[Row]) -> bool:
        """Answer the rows, each one way or the other; or say that memory holds half of them."""
        failure = ""
        try:
            if rows:
                answer(model, rows)
        except Exception as error:
            failure = first_line(error)
        if "out of memory" in failure:
            model.free_memory()
            if len(rows) > 1:
                return True
        for row in rows:  # those that have their answer keep it
            row.fail(
                ProviderError(
                    f"{model.name} failed: {failure or 'its answer has no end'}",
                    kind="too_long" if "out of memory" in failure else "server",
                    scope="cell" if "out of memory" in failure else "later",
                )
            )
        return False

    def _model(self, settings: ModelSettings) -> TorchModel:
        if settings not in self._models:
            self._models[settings] = TorchModel(settings)
        return self._models[settings]


_worker = Worker()


def submit(job: Job) -> None:
    """Give a row to the process's worker, from a running event loop."""
    _worker.submit(job)


def _renew() -> None:
    """A forked child has neither the thread nor the accelerator."""
    global _worker  # noqa: PLW0603
    _worker = Worker()


@atexit.register
def _stop() -> None:
    _worker.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
