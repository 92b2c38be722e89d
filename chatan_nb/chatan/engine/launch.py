"""Starts runs: in the portal, those of one table one after another."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import weakref
from collections.abc import Callable
from typing import TypeVar

from chatan.engine.portal import Portal, portal
from chatan.engine.run import Run
from chatan.engine.scheduler import Limits, Scheduler, Work
from chatan.engine.table import Table
from chatan.engine.tally import Tally
from chatan.schema.columns import FunctionColumn

T = TypeVar("T")

_turns: weakref.WeakKeyDictionary[Table, tuple[Portal, asyncio.Lock]] = weakref.WeakKeyDictionary()


def launch(
    work: Callable[[], Work],
    rows: range,
    collect: Callable[[], T],
    *,
    limits: Limits = Limits(),  # noqa: B008 - it is immutable
    advice: str = "the same call goes on from there",
    home: asyncio.AbstractEventLoop | None = None,
    warm: str | None = None,
    tallies: list[Tally] | None = None,
) -> Run[T]:
    """Start a run over ``rows`` and return at once.

    ``work`` is asked again when the run's turn comes: what was edited until then holds.
    ``collect`` gives its result at the end, in a thread. ``home`` is the loop to which async
    user functions belong; ``warm`` a module that is imported in a thread meanwhile. The run's
    own count of its calls is added to ``tallies``.
    """
    gate = portal()
    known = work()
    is_async = any(
        isinstance(step.node.column, FunctionColumn) and step.node.column.is_async
        for step in known.plan.steps
    )
    run: Run[T] = Run(gate, known.table, rows, collect, advice, home if is_async else None)

    def make() -> Scheduler:
        known.table.extend(rows.stop)
        scheduler = Scheduler(gate, work(), rows, limits, home)
        if tallies is not None:
            tallies.append(scheduler.tally)
        return scheduler

    async def execute() -> None:
        loading = asyncio.create_task(_load(warm)) if warm else None
        await run.execute(make, _turn(gate, known.table))
        if loading is not None:
            await loading

    gate.spawn(execute())
    return run


async def _load(module: str) -> None:
    with contextlib.suppress(RuntimeError):  # the interpreter is ending: nobody will need it
        await asyncio.to_thread(importlib.import_module, module)


def _turn(gate: Portal, table: Table) -> asyncio.Lock:
    """What runs over one table wait for; a forked child has a portal, and so a lock, of its own."""
    owner, lock = _turns.get(table, (None, None))
    if owner is not gate or lock is None:
        lock = asyncio.Lock()
        _turns[table] = (gate, lock)
    return lock
