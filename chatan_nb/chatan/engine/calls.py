"""The function cells of one run: calls users' functions, and asks their ``when`` first."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable, Coroutine
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

LOOK_AGAIN = 0.5
"""Seconds between two looks whether the loop that async functions belong to is still there."""


class LoopEnded(RuntimeError):
    """The event loop in which a run was started has ended, and its async functions with it."""

    def __init__(self) -> None:
        super().__init__(
            "the event loop that the run was started in has ended, or its task was cancelled"
        )


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
            return ({name: _own(row.values[name]) for name in step.node.above},)
        return tuple([_own(row.values[name]) for name in names])

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
                coroutine = _outcome(column.function, arguments)
                outcome = await (coroutine if self._home is None else _at(self._home, coroutine))
        except asyncio.CancelledError:
            self._pending -= 1
            self._scheduler.abandon(row, step)
            raise
        except LoopEnded as ended:
            outcome = (None, ended)
        self._landed(self._called, [((row, step), outcome)])

    def _called(self, row: Row, step: Step, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self._scheduler.fail(row, step, _failure(error))
            return
        try:
            value = plain(value)
        except ValueError as fault:
            self._scheduler.fail(row, step, Failure("type", str(fault)))
        except Exception as fault:  # what a function gave may raise when looked at
            self._scheduler.fail(row, step, Failure("type", _said(fault)))
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


def _own(value: Any) -> Any:
    """A copy of what can be changed, so that no function reaches into a cell of the table."""
    return copy.deepcopy(value) if isinstance(value, dict | list) else value


async def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """What a user's coroutine comes to; even SystemExit is one cell's failure, not its loop's."""
    try:
        return await function(*arguments), None
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return None, error


async def _at(home: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Await a coroutine in another thread's loop. Raises ``LoopEnded`` where that ends first."""
    try:
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, home))
    except RuntimeError:
        coroutine.close()
        raise LoopEnded from None
    try:
        while not (await asyncio.wait([future], timeout=LOOK_AGAIN))[0]:
            if home.is_closed():
                coroutine.close()
                raise LoopEnded
    except asyncio.CancelledError:
        future.cancel()
        raise
    if future.cancelled():
        raise LoopEnded
    return future.result()


def _failure(error: BaseException, where: str = "") -> Failure:
    """A function's exception, with the line of it that raised."""
    if isinstance(error, LoopEnded):
        return Failure("cancelled", str(error))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" (line {trace.tb_lineno} of {trace.tb_frame.f_code.co_name})" if trace else ""
    return Failure("function", f"{where}{_said(error)}{place}")


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its own __str__ failed
        return type(error).__name__
