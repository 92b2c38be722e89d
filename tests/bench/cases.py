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
    per_cell = 1000 / (2 * rows)
    yield Figure(
        f"chain of 2, {rows:,} rows, 0 ms, 100 in flight",
        "CPU of a model cell, all in",
        whole["cpu"] * per_cell,
        "ms",
        0.20,
        {
            "aiohttp loop": loop["cpu"] * per_cell,
            "own transport, loop": transport["cpu"] * per_cell,
        },
    )


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
        yield Figure(work, what, whole["wall"] / ideal, "x", target, floors)
        what = "the same for the first run of a process, its imports included"
        yield Figure(work, what, whole["first_wall"] / ideal, "x", None, floors)


def tail(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(4000)
    endpoint = bench.server.endpoint(dist="ln", lat=2 * bench.latency, p99=30 * bench.latency)
    asked = {"url": endpoint.openai, "rows": rows, "concurrency": 100, "deep": 2}
    whole, loop = bench.least(("generating", asked), ("bare_loop", asked), repeats=1)
    ideal = _seconds_drawn(endpoint) / 2 / 100
    yield Figure(
        f"chain of 2, {rows:,} rows, log-normal latency, median {2 * bench.latency} ms, "
        f"p99 {30 * bench.latency} ms, 100 in flight",
        "wall over sum of latencies / concurrency",
        whole["wall"] / ideal,
        "x",
        1.3,
        {"aiohttp loop": loop["wall"] / ideal},
    )


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
    yield Figure(
        f"chain of 2, {rows:,} rows, {held['text']:,.0f} bytes of text a row",
        "peak above the text, a row",
        held["above"] / 1000,
        "KB",
        2.0,
    )


def first_row(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(1000)
    url = bench.server.endpoint(lat=bench.latency).openai
    (took,) = bench.least(("first_row", {"url": url, "rows": rows, "concurrency": 100, "deep": 2}))
    ideal = 2 * bench.latency / 1000
    work = f"chain of 2, {rows:,} rows, {bench.latency} ms, 100 in flight"
    what = "first complete row over depth × latency"
    yield Figure(work, what, took["second_run"] / ideal, "x", 1.5)
    what = "the same for the first run of a process, its imports included"
    yield Figure(work, what, took["first_run"] / ideal, "x")


def busy(bench: Bench) -> Iterator[Figure]:
    rows = bench.rows(1000)
    url = bench.server.endpoint(lat=bench.latency).openai
    (took,) = bench.least(("busy_kernel", {"url": url, "rows": rows, "concurrency": 100}))
    yield Figure(
        f"chain of 2, {rows:,} rows, {bench.latency} ms, 100 in flight",
        "wall beside a busy main thread over wall beside an idle one",
        took["busy"] / took["alone"],
        "x",
        2.0,
    )


def imports(bench: Bench) -> Iterator[Figure]:
    own, bare = bench.least(
        ("importing", {"module": "chatan"}), ("importing", {"module": "asyncio"})
    )
    work, floors = "import chatan", {"import asyncio": bare["cpu"] * 1000}
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
