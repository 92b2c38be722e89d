"""The rows of one run: admits them, sees which cells are ready, and settles what comes back."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chatan.engine.calls import FunctionCalls
from chatan.engine.drawing import Drawing, Given
from chatan.engine.lanes import Guard, Lane, Source, lane_for
from chatan.engine.plan import Plan, Step
from chatan.engine.portal import Portal
from chatan.engine.prompts import PromptQueue
from chatan.engine.table import BLOCK, SETTLED, CellColumn, Failure, State, Table
from chatan.engine.tally import Tally
from chatan.schema.columns import PromptColumn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from chatan.engine.lanes import Job

ROWS_PER_CALL = 4
"""Unfinished rows for each call that may be in flight: enough that a stuck one idles nobody."""

FEWEST_ROWS = 512
"""Unfinished rows that are always admitted."""

PASSING = frozenset(
    {"rate_limit", "timeout", "connection", "server", "broken_answer", "cancelled", "function"}
)
"""Kinds of failure that a later run tries again by itself."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may have going at once; ``None`` for no limit of its own."""

    concurrency: int | None = None
    rows: int | None = None
    columns: int | None = None


@dataclass(slots=True)
class Row:
    """A row that is not finished: what is known of it, and what is still waited for.

    ``waits`` counts for each step the cells it still needs; -1 once the step is settled.
    """

    number: int
    values: dict[str, Any]
    waits: list[int]
    left: int
    jobs: dict[int, Job] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Work:
    """What a run works on: a sheet's plan, table and draws.

    ``identities`` gives the names of the rows where their numbers are none, ``samples`` counts
    how often a cell was regenerated, ``memory`` holds the answers that prompts with ``reuse``
    share, ``is_current`` says whether a cell (row, column) is still what the plan would make of it.
    """

    plan: Plan
    table: Table
    seed: int
    name: str
    identities: Callable[[], npt.NDArray[np.uint64]] | None = None
    samples: Mapping[tuple[int, str], int] = field(default_factory=dict)
    memory: dict[bytes, object] = field(default_factory=dict)
    is_current: Callable[[int, str], bool] = lambda row, name: True  # noqa: ARG005


class Scheduler:
    """One execution of a plan over a range of rows; lives in the portal's loop."""

    def __init__(
        self,
        portal: Portal,
        work: Work,
        rows: range,
        limits: Limits,
        home: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.plan, self.table, self.seed = work.plan, work.table, work.seed
        self.samples, self.memory = work.samples, work.memory
        self.rows, self.limits, self.tally = rows, limits, Tally()
        self.unfinished: dict[int, Row] = {}
        self.finished = array("q")
        self.in_flight: Counter[int] = Counter()
        self.guard = Guard(self.stop)
        self.stopped = False
        self.paused = False
        self.error: BaseException | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._work = work
        self._portal = portal
        self._loop = portal.loop
        self._columns = [self._cells(step) for step in self.plan.steps]
        self._functions = FunctionCalls(self, home)
        self._drawing = Drawing(work, rows)
        self._admissible: Iterator[tuple[int, dict[str, Any]]] = iter(())
        self._queues: dict[int, PromptQueue] = {}
        self._flushing = False
        self._draw: asyncio.Future[Given] | None = None
        self._hungry = asyncio.Event()
        self._hungry.set()
        self._over = asyncio.Event()
        self._unsettled_in_block: Counter[int] = Counter()

    async def run(self) -> None:
        """Make the rows; returns when all are finished, or all that was in flight has landed."""
        async with self._portal.live():
            self._join_lanes()
            feeding = asyncio.create_task(self._feed())
            feeding.add_done_callback(self._fed)
            try:
                await self._over.wait()
            finally:
                feeding.cancel()
                if self._draw is not None:  # its thread cannot be stopped, and fills the table
                    await asyncio.wait([self._draw])
                for queue in self._queues.values():
                    queue.lane.leave(queue)
                for row in self.unfinished.values():
                    for step, column in zip(self.plan.steps, self._columns, strict=True):
                        if column.state(row.number) is State.RUNNING:
                            self.abandon(row, step)

    @property
    def may_send(self) -> bool:
        return not (self.paused or self.stopped)

    def identity(self, row: int) -> int:
        """What names the row in its draws."""
        identities = self._work.identities
        return row if identities is None else int(identities()[row])

    def stop(self, error: BaseException) -> None:
        """Send nothing more; what is in flight lands and is kept."""
        if not self.stopped:
            self.error = error
            self.stopped = True
            self._functions.clear()
            self.on_change()
        self._touch()

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self._touch()

    def mark(self, row: Row, step: Step, state: State) -> None:
        self._columns[step.index].mark(row.number, state)

    def finish(self, row: Row, step: Step, value: Any) -> None:
        """A cell has its value."""
        column = self._columns[step.index]
        current = self._work.is_current(row.number, step.name)
        state = State.DONE if current else State.STALE
        try:
            value = column.put(row.number, value, state)
        except ValueError as error:
            self.fail(row, step, Failure("type", str(error)))
            return
        row.values[step.name] = value
        self._settled(row, step)
        for feed in step.feeds:
            if row.waits[feed] > 0:
                row.waits[feed] -= 1
                if row.waits[feed] == 0:
                    self._ready(row, self.plan.steps[feed])

    def fail(self, row: Row, step: Step, failure: Failure) -> None:
        """A cell failed; what needs it is blocked."""
        if self._work.is_current(row.number, step.name):
            self._columns[step.index].fail(row.number, failure)
        else:
            self._leave(row, step)
        self._pass_on(row, step, State.BLOCKED)
        self._settled(row, step)

    def skip(self, row: Row, step: Step) -> None:
        """A cell is not wanted, nor is what needs it."""
        self._do_without(row, step, State.SKIPPED)
        self._pass_on(row, step, State.SKIPPED)
        self._settled(row, step)

    def abandon(self, row: Row, step: Step) -> None:
        """A cell will not be made by this run; a later one makes it."""
        self._leave(row, step)
        self._touch()

    def _leave(self, row: Row, step: Step) -> None:
        column = self._columns[step.index]
        held = column.get(row.number) is not None
        column.mark(row.number, State.STALE if held else State.PENDING)

    def _do_without(self, row: Row, step: Step, state: State) -> None:
        """Block or skip a cell, unless what that follows from has changed meanwhile."""
        if self._work.is_current(row.number, step.name):
            self._columns[step.index].mark(row.number, state)
        else:
            self._leave(row, step)

    def ready(self, row: Row, step: Step) -> None:
        """A cell whose inputs are done and which is wanted: make it."""
        if self.stopped:
            self.abandon(row, step)
        elif step.node.kind == "prompt":
            self._queues[step.index].push(row, step)
        elif step.node.kind == "function":
            self._functions.call(row, step)
        else:
            self._draw_one(row, step)
        self._touch()

    def _ready(self, row: Row, step: Step) -> None:
        if step.conditional:
            self._functions.ask_whether(row, step)
        else:
            self.ready(row, step)

    def _draw_one(self, row: Row, step: Step) -> None:
        try:
            value = self._drawing.one(step.node, row.number, row.values)
        except Exception as error:
            self.fail(row, step, Failure("sampler", str(error)))
        else:
            self.finish(row, step, value)

    def _pass_on(self, row: Row, step: Step, state: State) -> None:
        """Settle what needs a cell that is failed, blocked or skipped.

        A cell with inputs of both kinds is skipped: its blocked input may come yet, the other
        is not wanted.
        """
        for feed in step.feeds:
            column, settled = self._columns[feed], row.waits[feed] < 0
            if settled and not (
                state is State.SKIPPED and column.state(row.number) is State.BLOCKED
            ):
                continue
            follower = self.plan.steps[feed]
            self._do_without(row, follower, state)
            self._pass_on(row, follower, state)
            if not settled:
                self._settled(row, follower)

    def _settled(self, row: Row, step: Step) -> None:
        row.waits[step.index] = -1
        row.left -= 1
        if row.left == 0:
            self._row_finished(row.number)
        self._touch()

    def _row_finished(self, number: int) -> None:
        self.unfinished.pop(number, None)
        self.finished.append(number)
        block = number // BLOCK
        self._unsettled_in_block[block] -= 1
        if self._unsettled_in_block[block] == 0:
            del self._unsettled_in_block[block]
            self.table.seal(block)

    def _touch(self) -> None:
        """See, once the current step of the loop is over, what has become possible."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self.stopped:
            with self.guard:
                self._admit()
        for lane in {queue.lane for queue in self._queues.values()}:
            lane.pump()
        landed = not self.in_flight and not self._functions.busy
        if len(self.finished) == len(self.rows) or (self.stopped and landed):
            self._over.set()
        self.on_change()

    def _admit(self) -> None:
        """Take up as many rows as may be unfinished at once."""
        lanes = {id(queue.lane): queue.lane for queue in self._queues.values()}
        flying = sum(lane.limit for lane in lanes.values())
        most = self.limits.rows or max(FEWEST_ROWS, ROWS_PER_CALL * flying)
        while len(self.unfinished) < most:
            number, values = next(self._admissible, (-1, {}))
            if number < 0:
                self._hungry.set()
                return
            self._take_up(number, values)

    def _take_up(self, number: int, values: dict[str, Any]) -> None:
        steps = self.plan.steps
        row = Row(number, values, [len(step.waits) for step in steps], len(steps))
        self.unfinished[number] = row
        failed_inputs = self._drawing.failed(number)
        todo = []
        for step, column in zip(steps, self._columns, strict=True):
            state = column.state(number)
            if row.waits[step.index] < 0:
                continue
            if failed_inputs and not failed_inputs.isdisjoint(step.node.needs):
                column.mark(number, State.BLOCKED)
                self._pass_on(row, step, State.BLOCKED)
                self._settled(row, step)
            elif state is State.DONE:
                values[step.name] = column.get(number)
                self._held(row, step)
            elif state is State.SKIPPED:
                self._pass_on(row, step, State.SKIPPED)
                self._held(row, step)
            elif state is State.FAILED and column.failures[number].kind not in PASSING:
                self._pass_on(row, step, State.BLOCKED)
                self._held(row, step)
            else:
                todo.append(step)
        for step in [step for step in todo if row.waits[step.index] == 0]:
            self._ready(row, step)

    def _held(self, row: Row, step: Step) -> None:
        """A cell that an earlier run settled."""
        self._settled(row, step)
        for feed in step.feeds:
            if row.waits[feed] > 0:
                row.waits[feed] -= 1

    async def _feed(self) -> None:
        """Draw spans of rows ahead of their admission, in a thread."""
        for start, stop in self._drawing.spans():
            if self.stopped:
                return
            self._draw = asyncio.ensure_future(asyncio.to_thread(self._drawing.draw, stop))
            given = await asyncio.shield(self._draw)
            if self._all_settled(start, stop):
                self.finished.extend(range(start, stop))
                self._touch()
                continue
            self._unsettled_in_block[start // BLOCK] = stop - start
            await self._hungry.wait()
            self._admissible = given(start, stop)
            self._hungry.clear()
            self._touch()
        self._touch()

    def _fed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)

    def _all_settled(self, start: int, stop: int) -> bool:
        """Whether a span needs no work: its cells are done, or settled for good."""
        for column in self._columns:
            states = column.states[start:stop]
            if states.count(State.DONE) == stop - start:
                continue
            if not SETTLED.issuperset(map(State, set(states))):
                return False
            if State.BLOCKED in states or State.FAILED in states:
                return False
        return True

    def _join_lanes(self) -> None:
        joined: dict[int, PromptQueue] = {}
        for step in self.plan.steps:
            column = step.node.column
            if not isinstance(column, PromptColumn):
                continue
            source: Source = column.source
            lane: Lane = lane_for(self._portal, source, column.call.model)
            if id(lane) not in joined:
                joined[id(lane)] = PromptQueue(self, lane)
                lane.join(joined[id(lane)])
            self._queues[step.index] = joined[id(lane)]

    def _cells(self, step: Step) -> CellColumn:
        column = self.table.columns[step.name]
        assert isinstance(column, CellColumn)
        return column
