"""The prompt cells of one run in one lane: which goes next, what is asked, what it answered."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from chatan.engine.keys import draw_of, key_of
from chatan.engine.lanes import Job, Lane, Source
from chatan.engine.table import Failure, State
from chatan.providers.base import Completion, Message, ProviderError, Request
from chatan.schema.columns import PromptColumn
from chatan.schema.structured import AnswerFault

if TYPE_CHECKING:
    from chatan.engine.plan import Step
    from chatan.engine.scheduler import Row, Scheduler


class PromptQueue:
    """What one run wants of one lane: earliest row first, in a row the deepest column first."""

    def __init__(self, scheduler: Scheduler, lane: Lane) -> None:
        self.lane = lane
        self._scheduler = scheduler
        self._waiting: dict[int, list[int]] = {}
        self._asked: dict[bytes, list[tuple[Row, Step]]] = {}
        self.guard = scheduler.guard

    def push(self, row: Row, step: Step) -> None:
        """A cell whose inputs are done."""
        heapq.heappush(self._waiting.setdefault(step.index, []), row.number)

    def put_back(self, job: Job) -> None:
        if self._scheduler.stopped:
            self._scheduler.abandon(job.row, job.step)
        else:
            heapq.heappush(self._waiting.setdefault(job.step.index, []), job.row.number)
            job.row.jobs[job.step.index] = job

    def take(self) -> Job | None:
        scheduler = self._scheduler
        limits = scheduler.limits
        while self._waiting and scheduler.may_send:
            busy = scheduler.in_flight
            if limits.concurrency is not None and busy.total() >= limits.concurrency:
                return None
            full = limits.columns is not None and len(busy) >= limits.columns
            best: tuple[int, int] | None = None
            for index, rows in self._waiting.items():
                if full and index not in busy:
                    continue
                if best is None or (rows[0], -index) < best:
                    best = (rows[0], -index)
            if best is None:
                return None
            number, index = best[0], -best[1]
            rows = self._waiting[index]
            heapq.heappop(rows)
            if not rows:
                del self._waiting[index]
            job = self._job(scheduler.unfinished[number], scheduler.plan.steps[index])
            if job is not None:
                busy[index] += 1
                return job
        return None

    def _job(self, row: Row, step: Step) -> Job | None:
        """The request of a cell; ``None`` where it is settled, or soon will be, without one."""
        if (held := row.jobs.pop(step.index, None)) is not None:
            return held
        scheduler = self._scheduler
        column = step.node.column
        assert isinstance(column, PromptColumn)
        source: Source = column.source
        try:
            messages: list[Message] = [
                {"role": role, "content": template.render(row.values)}
                for role, template in step.node.messages
            ]
        except ValueError as error:
            scheduler.fail(row, step, Failure("template", str(error)))
            return None
        sample = scheduler.samples.get((row.number, step.name), 0)
        if column.reuse:
            key = key_of(source.provider, column.call, messages, sample)
            if key in scheduler.memory:
                scheduler.finish(row, step, scheduler.memory[key])
                return None
            askers = self._asked.setdefault(key, [])
            askers.append((row, step))
            row.keys[step.index] = key
            if len(askers) > 1:
                return None
        scheduler.mark(row, step, State.RUNNING)
        identity = scheduler.identity(row.number)
        draw = draw_of(scheduler.seed, identity, step.twin, sample)
        return Job(row, step, source.provider, Request(column.call, messages, draw))

    def read(self, job: Job, completion: Completion) -> object:
        column: PromptColumn = job.step.node.column
        text, usage = completion.text, completion.usage
        if completion.finish_reason == "length" and (column.answer or column.fail_on_length):
            raise ProviderError(
                f"the answer was cut off after {usage.output_tokens} tokens; raise max_tokens",
                kind="invalid_answer" if column.answer else "length",
                scope="cell",
                text=text,
            )
        if column.answer is None:
            return text
        try:
            return column.answer.parse(text)
        except AnswerFault as fault:
            raise ProviderError(
                f"the answer does not fit its schema: {fault}",
                kind="invalid_answer",
                scope="cell",
                text=text,
            ) from None

    def landed(self, job: Job, completion: Completion | None, error: ProviderError | None) -> None:
        busy: Counter[int] = self._scheduler.in_flight
        busy[job.step.index] -= 1
        if not busy[job.step.index]:
            del busy[job.step.index]
        self._scheduler.tally.count(job.step.name, completion, error)

    def settle(self, job: Job, value: object, error: ProviderError | None) -> None:
        scheduler = self._scheduler
        askers = [(job.row, job.step)]
        if (key := job.row.keys.pop(job.step.index, None)) is not None:
            askers = self._asked.pop(key)
            if error is None:
                scheduler.memory[key] = value
        if error is not None and error.scope == "run":
            for row, step in askers:
                scheduler.abandon(row, step)
            scheduler.stop(error)
            return
        for row, step in askers:
            if error is None:
                scheduler.finish(row, step, value)
            else:
                failure = Failure(error.kind, str(error), job.attempts, error.text)
                scheduler.fail(row, step, failure)
