"""The function cells of one run: calls users' functions, and asks their ``when`` first."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chatan.engine.functions import Caller, Outcome
from chatan.engine.table import Failure, State
from chatan.engine.types import plain
from chatan.schema.columns import FunctionColumn, PromptColumn

if TYPE_CHECKING:
    from chatan.engine.plan import Step
    from chatan.engine.scheduler import Row, Scheduler

Each = Callable[["Row", "Step", Any, BaseException | None], None]

COROUTINES = 256
"""Cells of one async function that are awaited at once."""


class FunctionCalls:
    """Calls the functions of a run's columns; async ones on ``home``, the loop they belong to."""

    def __init__(self, scheduler: Scheduler, home: asyncio.AbstractEventLoop | None) -> None:
        self._scheduler = scheduler
        self._home = home
        self._callers: dict[tuple[int, bool], Caller] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._gates: dict[int, asyncio.Semaphore] = {}
        self._pending = 0

    @property
    def busy(self) -> bool:
        """Whether a call is under way or waits for its turn."""
        return self._pending > 0

    def clear(self) -> None:
        """Make no call that has not begun."""
        for caller in self._callers.values():
            for row, step in caller.clear():
                self._pending -= 1
                self._scheduler.abandon(row, step)
        for task in self._tasks:
            task.cancel()

    def call(self, row: Row, step: Step) -> None:
        """Make a function cell."""
        column = step.node.column
        assert isinstance(column, FunctionColumn)
        self._pending += 1
        self._scheduler.mark(row, step, State.RUNNING)
        arguments = self._arguments(row, step.node.arguments, step)
        if not column.is_async:
            self._caller(step, column.function, asks=False).submit((row, step), arguments)
            return
        task = asyncio.create_task(self._await(row, step, column, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ask_whether(self, row: Row, step: Step) -> None:
        """Make the cell only where its ``when`` says so."""
        column = step.node.column
        assert isinstance(column, FunctionColumn | PromptColumn)
        assert column.when is not None
        self._pending += 1
        arguments = self._arguments(row, step.node.condition, step)
        self._caller(step, column.when, asks=True).submit((row, step), arguments)

    def _arguments(self, row: Row, names: tuple[str, ...] | None, step: Step) -> tuple[Any, ...]:
        if names is None:
            return ({name: row.values[name] for name in step.node.above},)
        return tuple([row.values[name] for name in names])

    def _caller(self, step: Step, function: Any, *, asks: bool) -> Caller:
        caller = self._callers.get((step.index, asks))
        if caller is None:
            each = self._asked if asks else self._called
            caller = self._callers[step.index, asks] = Caller(
                function, functools.partial(self._landed, each)
            )
        return caller

    def _landed(self, each: Each, results: list[tuple[Any, Outcome]]) -> None:
        for (row, step), (value, error) in results:
            self._pending -= 1
            with self._scheduler.guard:
                each(row, step, value, error)

    async def _await(
        self, row: Row, step: Step, column: FunctionColumn, arguments: tuple[Any, ...]
    ) -> None:
        gate = self._gates.setdefault(step.index, asyncio.Semaphore(COROUTINES))
        outcome: Outcome
        try:
            async with gate:
                coroutine = column.function(*arguments)
                if self._home is not None:
                    future = asyncio.run_coroutine_threadsafe(coroutine, self._home)
                    outcome = (await asyncio.wrap_future(future), None)
                else:
                    outcome = (await coroutine, None)
        except asyncio.CancelledError:
            self._pending -= 1
            self._scheduler.abandon(row, step)
            raise
        except Exception as error:
            outcome = (None, error)
        self._landed(self._called, [((row, step), outcome)])

    def _called(self, row: Row, step: Step, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self._scheduler.fail(row, step, _failure(error))
            return
        try:
            value = plain(value)
        except ValueError as fault:
            self._scheduler.fail(row, step, Failure("type", str(fault)))
        else:
            self._scheduler.finish(row, step, value)

    def _asked(self, row: Row, step: Step, wanted: Any, error: BaseException | None) -> None:
        if error is None:
            try:
                wanted = bool(wanted)
            except Exception as fault:
                error = fault
        if error is not None:
            self._scheduler.fail(row, step, _failure(error, "when=: "))
        elif wanted:
            self._scheduler.ready(row, step)
        else:
            self._scheduler.skip(row, step)


def _failure(error: BaseException, where: str = "") -> Failure:
    """A function's exception, with the line of it that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" (line {trace.tb_lineno} of {trace.tb_frame.f_code.co_name})" if trace else ""
    return Failure("function", f"{where}{type(error).__name__}: {error}{place}")
