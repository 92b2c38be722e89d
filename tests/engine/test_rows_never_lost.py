"""Random schemas, failures and limits against a plain interpretation, one row after another."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import chatan
from chatan import sample
from chatan.providers.base import Completion, Request
from engine.echo import EchoProvider, generator, later, refused

ROWS = 40
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)


@dataclass(frozen=True)
class Plan:
    """A column of a random schema: what it is, what it needs, how often it fails or is skipped."""

    kind: str
    needs: tuple[str, ...]
    asks: tuple[str, ...]
    fails: int
    skips: int
    stumbles: int


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Plan]:
    plans: dict[str, Plan] = {}
    for number in range(draw(st.integers(1, 8))):
        above = ["at", *plans]
        plans[f"c{number}"] = Plan(
            kind=draw(st.sampled_from(["prompt", "prompt", "function", "coroutine", "sampler"])),
            needs=tuple(draw(st.lists(st.sampled_from(above), max_size=3, unique=True))),
            asks=tuple(draw(st.lists(st.sampled_from(above), max_size=2, unique=True))),
            fails=draw(st.sampled_from([0, 0, 20, 50])),
            skips=draw(st.sampled_from([0, 0, 20, 50])),
            stumbles=draw(st.sampled_from([0, 0, 0, 10])),
        )
    return plans


def chance(percent: int, *about: object) -> bool:
    return zlib.crc32(repr(about).encode()) % 100 < percent


def prompt_of(name: str, plan: Plan, values: Mapping[str, Any]) -> str:
    return "|".join([name, str(values["at"]), *(f"{values[need]}" for need in plan.needs)])


def answer_of(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


class Watched(EchoProvider):
    """Takes a few steps for each answer, and sees how many rows and columns are asked at once."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        super().__init__(self.answer)
        self.plans = plans
        self.flying: Counter[tuple[str, str]] = Counter()
        self.most_rows = self.most_columns = 0

    def answer(self, prompt: str, attempt: int) -> object:
        plan = self.plans[prompt.split("|")[0]]
        if chance(plan.stumbles, "stumble", prompt) and attempt == 1:
            return later("server")
        return refused() if chance(plan.fails, "fail", prompt) else answer_of(prompt)

    async def complete(self, request: Request) -> Completion:
        column, row, *_ = request.messages[-1]["content"].split("|")
        self.flying[column, row] += 1
        self.most_rows = max(self.most_rows, len({row for _, row in self.flying}))
        self.most_columns = max(self.most_columns, len({column for column, _ in self.flying}))
        try:
            for _ in range(request.draw % 7):
                await asyncio.sleep(0)
            return await super().complete(request)
        finally:
            self.flying[column, row] -= 1
            self.flying += Counter()


def dataset_of(plans: Mapping[str, Plan], provider: Watched, *, concurrency: Any) -> chatan.Dataset:
    gen = generator(provider, concurrency)
    numbers = sample.from_dataset({"at": list(range(ROWS))}, "at", order="sequential")
    columns: dict[str, Any] = {"at": numbers}
    for name, plan in plans.items():
        columns[name] = column_of(name, plan, gen)
    return chatan.dataset(columns, seed=3)


def column_of(name: str, plan: Plan, gen: Any) -> Any:
    if plan.kind == "sampler":
        return sample.range(0, 10**6)
    when = None
    if plan.skips:
        asks = ", ".join(plan.asks)
        when = eval(f"lambda {asks}: not chance(percent, name, {asks})",
                    {"chance": chance, "percent": plan.skips, "name": name})  # fmt: skip
    if plan.kind == "prompt":
        references = "".join(f"|{{{need}}}" for need in plan.needs)
        return gen(f"{name}|{{at}}{references}", when=when)

    def compute(at: object, *values: object) -> str:
        text = prompt_of(name, plan, {"at": at, **dict(zip(plan.needs, values, strict=True))})
        if chance(plan.fails, "fail", text):
            raise LookupError(text)
        return answer_of(text)

    async def compute_later(at: object, *values: object) -> str:
        await asyncio.sleep(0)
        return compute(at, *values)

    function = compute if plan.kind == "function" else compute_later
    return chatan.function(function, needs=["at", *plan.needs], when=when)


def interpreted(plans: Mapping[str, Plan], drawn: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """A row as it must be: the state and value of each column."""
    cells: dict[str, tuple[str, Any]] = {"at": ("done", drawn["at"])}
    for name, plan in plans.items():
        if plan.kind == "sampler":
            cells[name] = ("done", drawn[name])
            continue
        needs = {"at", *plan.needs} | (set(plan.asks) if plan.skips else set())
        found = {cells[need][0] for need in needs}
        values = {need: cells[need][1] for need in needs}
        if "skipped" in found:
            cells[name] = ("skipped", None)
        elif found != {"done"}:
            cells[name] = ("blocked", None)
        elif plan.skips and chance(plan.skips, name, *(values[ask] for ask in plan.asks)):
            cells[name] = ("skipped", None)
        elif chance(plan.fails, "fail", prompt_of(name, plan, values)):
            cells[name] = ("failed", None)
        else:
            cells[name] = ("done", answer_of(prompt_of(name, plan, values)))
    return cells


def check(ds: chatan.Dataset, plans: Mapping[str, Plan], n: int) -> int:
    """Compare a dataset with its interpretation; the number of prompts it must have asked."""
    table = ds.to_arrow(n).to_pylist()
    assert len(table) == n
    rows = [interpreted(plans, row) for row in table]
    for row, cells in zip(table, rows, strict=True):
        assert row == {name: cells[name][1] for name in row}
    failed = {
        (number, name)
        for number, cells in enumerate(rows)
        for name in cells
        if cells[name][0] == "failed"
    }
    told = ds.errors
    assert set(zip(told["row"], told["column"], strict=True)) == failed
    assert len(told) == len(failed)
    for name in ds:
        assert ds[name].states == Counter(cells[name][0] for cells in rows)
    return sum(
        plans[name].kind == "prompt" and cells[name][0] in {"done", "failed"}
        for cells in rows
        for name in plans
    )


@pytest.mark.filterwarnings("ignore::chatan.FailedCells")
@settings(max_examples=60, deadline=None, phases=PHASES)
@given(
    plans=schemas(),
    n=st.integers(0, ROWS),
    before=st.integers(0, ROWS),
    concurrency=st.sampled_from([1, 2, 5, 64, "auto"]),
    flying=st.sampled_from([None, 1, 3]),
    rows=st.sampled_from([None, 1, 4]),
    columns=st.sampled_from([None, 1, 2]),
)
def test_every_cell_is_what_it_must_be(
    plans: dict[str, Plan],
    n: int,
    before: int,
    concurrency: Any,
    flying: int | None,
    rows: int | None,
    columns: int | None,
) -> None:
    provider = Watched(plans)
    ds = dataset_of(plans, provider, concurrency=concurrency)
    limits = {
        "concurrency": flying,
        "max_concurrent_rows": rows,
        "max_concurrent_columns": columns,
    }
    ds.run(before, **limits)
    ds.run(n, **limits)
    asked = check(ds, plans, max(n, before))
    assert len(set(provider.prompts)) == asked
    stumbled = sum(
        chance(plans[prompt.split("|")[0]].stumbles, "stumble", prompt)
        for prompt in set(provider.prompts)
    )
    assert provider.calls == asked + stumbled, "nothing settled is sent again"
    draws = set(zip(provider.prompts, provider.draws, strict=True))
    assert len(draws) == asked, "a cell keeps its draw when it is sent again"
    most = 16 if concurrency == "auto" else concurrency
    assert provider.most_in_flight <= min(flying or most, most)
    assert provider.most_rows <= (rows or ROWS)
    assert provider.most_columns <= (columns or len(plans))


@settings(max_examples=15, deadline=None, phases=PHASES)
@given(plans=schemas(), sizes=st.lists(st.integers(0, ROWS), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore::chatan.FailedCells")
def test_the_same_seed_gives_the_same_rows_however_they_are_cut(
    plans: dict[str, Plan], sizes: list[int]
) -> None:
    whole = dataset_of(plans, Watched(plans), concurrency=64).run(ROWS)
    ds = dataset_of(plans, Watched(plans), concurrency=2)
    for size in sizes:
        pd.testing.assert_frame_equal(
            ds.run(size).astype(object), whole.head(size).astype(object), check_index_type=False
        )
