"""The cases: what is measured, what each figure may be, and the floor it stands beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from servers import Endpoint, LanguageModelServer
from servers.answers import prompt_of
from servers.options import Options, Scope

Measure = Callable[[str, Mapping[str, Any]], dict[str, float]]
"""Makes a measurement of ``measure.py``, by name and arguments."""


FIRST_RUN = "the same in a fresh process, what it imports included"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; a ``target`` is the most that the value may be."""

    work: str
    what: str
    value: float
    unit: str
    target: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)


class Bench:
    """What every case needs.

    Parameters
    ----------
    server
        Answers the calls.
    measure
        Makes one measurement.
    scale
        What part of its rows a case makes.
    repeats
        How often each measurement is made.
    latency
        Milliseconds after which the server answers.
    """

    def __init__(
        self,
        server: LanguageModelServer,
        measure: Measure,
        *,
        scale: float = 1.0,
        repeats: int = 3,
        latency: int = 100,
    ) -> None:
        self.server = server
        self.repeats = repeats
        self.latency = latency
        self._measure = measure
        self._scale = scale

    def rows(self, full: int) -> int:
        return max(4, round(full * self._scale))

    def least(
        self, *measurements: tuple[str, Mapping[str, Any]], repeats: int | None = None
    ) -> list[dict[str, float]]:
        """The measurements by turns, so that they share the machine's moods; the least of each."""
        taken: list[list[dict[str, float]]] = [[] for _ in measurements]
        for _ in range(repeats or self.repeats):
            for measurement, figures in zip(measurements, taken, strict=True):
                figures.append(self._measure(*measurement))
        return [
            {name: min(each[name] for each in figures) for name in figures[0]} for figures in taken
        ]


def cpu(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(20_000)
    asked = {"url": bench.server.endpoint().openai, "rows": rows, "concurrency": 100, "deep": 2}
    whole, loop, transport = bench.least(
        ("generating", asked),
        ("bare_loop", asked),
        ("bare_loop", {**asked, "client": "transport"}),
    )
    ms_per_cell = 1000 / (2 * rows)
    work = f"chain of 2, {rows:,} rows, 0 ms, 100 in flight"
    floors = {
        "aiohttp loop": loop["cpu"] * ms_per_cell,
        "loop over our transport": transport["cpu"] * ms_per_cell,
    }
    yield Figure(work, "CPU a cell, all in", whole["cpu"] * ms_per_cell, "ms", 0.20, floors)
    # The same as a ratio, which machines agree on: 0.20 ms where the bare loop takes 0.11.
    yield Figure(work, "over the aiohttp loop's", whole["cpu"] / loop["cpu"], "×", 1.8)


def wall(bench: Bench) -> Iterator[Figure]:
    url = bench.server.endpoint(lat=bench.latency).openai
    for shape, full, deep, wide, concurrency, target in (
        ("chain of 2", 1000, 2, 1, 100, 1.15),
        ("chain of 2", 1000, 2, 1, 256, 1.3),
        ("chain of 6", 300, 6, 1, 100, 1.15),
        ("8 side by side", 200, 1, 8, 96, 1.15),
    ):
        rows = bench.rows(full)
        asked = {"url": url, "rows": rows, "concurrency": concurrency, "deep": deep, "wide": wide}
        whole, loop = bench.least(("generating", {**asked, "times": 2}), ("bare_loop", asked))
        ideal = rows * deep * wide * bench.latency / 1000 / concurrency
        work = f"{shape}, {rows:,} rows, {bench.latency} ms, {concurrency} in flight"
        floors = {"aiohttp loop": loop["wall"] / ideal}
        what = "wall over cells × latency / concurrency"
        yield Figure(work, what, whole["wall"] / ideal, "×", target, floors)
        yield Figure(work, FIRST_RUN, whole["first_wall"] / ideal, "×")


def tail(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(4000)
    # A seed with which the longest answers come early enough for a loop without a pause to take
    # 1.19 times the ideal; with others no loop can do better than 1.28.
    latencies = {"dist": "ln", "lat": 2 * bench.latency, "p99": 30 * bench.latency, "seed": 3}
    endpoint = bench.server.endpoint(**latencies)
    asked = {"url": endpoint.openai, "rows": rows, "concurrency": 100, "deep": 2}
    whole, loop = bench.least(("generating", asked), ("bare_loop", asked), repeats=1)
    ideal = _seconds_drawn(endpoint) / 2 / 100  # both asked the same
    work = (
        f"chain of 2, {rows:,} rows, log-normal latency: median {2 * bench.latency} ms, "
        f"p99 {30 * bench.latency} ms; 100 in flight"
    )
    what = "wall over sum of latencies / concurrency"
    floors = {"aiohttp loop": loop["wall"] / ideal}
    yield Figure(work, what, whole["wall"] / ideal, "×", 1.3, floors)


def _seconds_drawn(endpoint: Endpoint) -> float:
    """The sum of the latencies of all that was asked at an endpoint, as the server drew them."""
    scope = Scope(Options.read(endpoint.url.rpartition("/")[2]), kept=0)
    asked = (prompt_of(request["body"]["messages"]) for request in endpoint.requests())
    return sum(scope.draw_latency(prompt) for prompt in asked)


def samplers(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(1_000_000)
    drawn, bare = bench.least(("samplers", {"rows": rows}), ("numpy_samplers", {"rows": rows}))
    work = f"choice, weighted, uuid, datetime, range; {rows:,} rows"
    yield Figure(work, "CPU to a DataFrame", drawn["cpu"], "s", 2.0, {"numpy": bare["cpu"]})
    peak = drawn["peak"] / 1e6
    yield Figure(work, "peak of the process", peak, "MB", 700, {"numpy": bare["peak"] / 1e6})


def memory(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(20_000)
    asked = {"url": bench.server.endpoint().openai, "rows": rows, "concurrency": 100}
    (held,) = bench.least(("remembering", asked))
    work = f"chain of 2, {rows:,} rows with {held['text']:,.0f} bytes of text each"
    yield Figure(work, "peak above the text, a row", held["above"] / 1000, "KB", 2.0)


def first_row(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(1000)
    url = bench.server.endpoint(lat=bench.latency).openai
    (took,) = bench.least(("first_row", {"url": url, "rows": rows, "concurrency": 100, "deep": 2}))
    ideal = 2 * bench.latency / 1000
    work = f"chain of 2, {rows:,} rows, {bench.latency} ms, 100 in flight"
    what = "first complete row over depth × latency"
    yield Figure(work, what, took["second_run"] / ideal, "×", 1.5)
    yield Figure(work, FIRST_RUN, took["first_run"] / ideal, "×")


def busy(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(1000)
    url = bench.server.endpoint(lat=bench.latency).openai
    (took,) = bench.least(("busy_kernel", {"url": url, "rows": rows, "concurrency": 100}))
    work = f"chain of 2, {rows:,} rows, {bench.latency} ms, 100 in flight"
    what = "wall beside a computing main thread over wall beside an idle one"
    yield Figure(work, what, took["busy"] / took["alone"], "×", 2.0)


def imports(bench: Bench) -> Iterator[Figure]:
    own, bare, pandas = bench.least(
        ("importing", {"module": "chatan"}),
        ("importing", {"module": "asyncio"}),
        ("importing", {"module": "pandas"}),
    )
    work = "import chatan"
    floors = {"import asyncio": bare["cpu"] * 1000, "import pandas": pandas["cpu"] * 1000}
    yield Figure(work, "CPU", own["cpu"] * 1000, "ms", 150, floors)
    floors = {"import asyncio": bare["held"] / 1e6}
    yield Figure(work, "memory of the process", own["held"] / 1e6, "MB", None, floors)


CASES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "cpu": cpu,
    "wall": wall,
    "tail": tail,
    "samplers": samplers,
    "memory": memory,
    "first-row": first_row,
    "busy": busy,
    "import": imports,
}
