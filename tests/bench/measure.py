"""One measurement in a process of its own; what it took is printed as JSON.

``python tests/bench/measure.py samplers rows=1000``. Nothing is imported above the functions
that is not in every interpreter already: a measurement pays for its own imports.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    import pandas as pd

    import chatan

    Client = tuple[Callable[[str], Awaitable[str]], Callable[[], Awaitable[None]]]

WARM_ROWS = 64
"""Rows of a run before the one that is measured, where a process is measured that is at work."""

HEADERS = {"Authorization": "Bearer your-api-key", "Content-Type": "application/json"}


def importing(module: str) -> dict[str, float]:
    """CPU seconds of an import, and the bytes that the process then holds."""
    began = time.process_time()
    __import__(module)
    return {"cpu": time.process_time() - began, "held": _memory("VmRSS")}


def generating(
    url: str, rows: int, concurrency: int, deep: int = 1, wide: int = 1, times: int = 1
) -> dict[str, float]:
    """Seconds from the schema to the DataFrame, in the first run of the process and the last."""
    walls: list[float] = []
    began_cpu = time.process_time()
    for _ in range(times):
        dataset = _dataset(url, rows, concurrency, deep, wide)
        began, began_cpu = time.perf_counter(), time.process_time()
        frame = dataset.run(rows)
        walls.append(time.perf_counter() - began)
    cpu = time.process_time() - began_cpu
    _check(frame, rows)
    return {"cpu": cpu, "wall": walls[-1], "first_wall": walls[0]}


def bare_loop(
    url: str, rows: int, concurrency: int, deep: int = 1, wide: int = 1, client: str = "aiohttp"
) -> dict[str, float]:
    """The same calls by ``concurrency`` tasks in a plain loop, which keep nothing but the text."""
    import asyncio

    async def main() -> dict[str, float]:
        began_cpu = time.process_time()
        ask, close = _aiohttp_client(url) if client == "aiohttp" else _transport_client(url)
        chains = iter([(chain, item) for item in _items(rows) for chain in range(wide)])
        answers: list[str] = []

        async def work() -> None:
            for chain, item in chains:
                text = item
                for _ in range(deep):
                    text = await ask(_prompt(chain, text))
                    answers.append(text)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        wall = time.perf_counter() - began
        cpu = time.process_time() - began_cpu
        await close()
        if len(answers) != rows * wide * deep:
            raise RuntimeError(f"{len(answers)} answers to {rows * wide * deep} prompts")
        return {"cpu": cpu, "wall": wall}

    return asyncio.run(main())


def remembering(url: str, rows: int, concurrency: int) -> dict[str, float]:
    """Bytes a row, at the peak of a process that has run before: of the text, and above it."""
    import gc

    _dataset(url, WARM_ROWS, concurrency, deep=2).run(WARM_ROWS)
    dataset = _dataset(url, rows, concurrency, deep=2)
    gc.collect()
    before = _memory("VmRSS")
    frame = dataset.run(rows)
    peak = _memory("VmHWM")
    _check(frame, rows)
    text = sum(int(frame[name].str.len().sum()) for name in frame)
    return {"text": text / rows, "above": (peak - before - text) / rows}


def first_row(url: str, rows: int, concurrency: int, deep: int) -> dict[str, float]:
    """Seconds until a row is complete, in the first run of the process and the second."""
    import asyncio

    async def main() -> float:
        dataset = _dataset(url, rows, concurrency, deep)
        began = time.perf_counter()
        run = dataset.start(rows)
        await anext(aiter(run))
        took = time.perf_counter() - began
        await run
        return took

    return {"first_run": asyncio.run(main()), "second_run": asyncio.run(main())}


def busy_kernel(url: str, rows: int, concurrency: int) -> dict[str, float]:
    """Seconds of a run while the main thread waits, and while it computes without a pause."""
    _dataset(url, WARM_ROWS, concurrency, deep=2).run(WARM_ROWS)
    began = time.perf_counter()
    _dataset(url, rows, concurrency, deep=2).start(rows).result()
    alone = time.perf_counter() - began
    began = time.perf_counter()
    run = _dataset(url, rows, concurrency, deep=2).start(rows)
    total = 0
    while not run.done():
        for number in range(100_000):
            total += number
    busy = time.perf_counter() - began
    _check(run.result(), rows)
    return {"alone": alone, "busy": busy}


def samplers(rows: int) -> dict[str, float]:
    """CPU seconds from the schema to the DataFrame, and the peak of the process in bytes."""
    import chatan
    from chatan import sample

    began = time.process_time()
    dataset = chatan.dataset(
        {
            "language": sample.choice(["Python", "JavaScript", "Rust"]),
            "difficulty": sample.weighted({"easy": 0.5, "medium": 0.3, "hard": 0.2}),
            "id": sample.uuid(),
            "created": sample.datetime("2024-01-01", "2024-12-31"),
            "score": sample.range(0, 100),
        }
    )
    frame = dataset.run(rows)
    cpu = time.process_time() - began
    _check(frame, rows)
    return {"cpu": cpu, "peak": _memory("VmHWM")}


def numpy_samplers(rows: int) -> dict[str, float]:
    """The same columns, drawn by numpy straight into a DataFrame."""
    began = time.process_time()
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(0)
    digits = draw.bytes(16 * rows).hex()
    seconds = draw.integers(0, 365 * 86_400, rows)
    frame = pd.DataFrame(
        {
            "language": draw.choice(["Python", "JavaScript", "Rust"], rows),
            "difficulty": draw.choice(["easy", "medium", "hard"], rows, p=[0.5, 0.3, 0.2]),
            "id": [digits[at : at + 32] for at in range(0, 32 * rows, 32)],
            "created": np.datetime64("2024-01-01", "s") + seconds.astype("m8[s]"),
            "score": draw.integers(0, 100, rows),
        }
    )
    cpu = time.process_time() - began
    _check(frame, rows)
    return {"cpu": cpu, "peak": _memory("VmHWM")}


def _items(rows: int) -> list[str]:
    """What the prompts begin with: every row's its own, and the same for all measurements."""
    return [f"item {row}" for row in range(rows)]


def _prompt(chain: int, text: str) -> str:
    return f"Write text {chain} about: {text}"


def _dataset(url: str, rows: int, concurrency: int, deep: int = 1, wide: int = 1) -> chatan.Dataset:
    """``wide`` chains of prompt columns side by side, each ``deep``."""
    import chatan

    ask = chatan.generator("openai", "your-api-key", base_url=url, concurrency=concurrency)
    items = chatan.sample.from_dataset({"item": _items(rows)}, "item", order="sequential")
    columns: dict[str, Any] = {"item": items}
    for chain in range(wide):
        above = "item"
        for level in range(deep):
            name = f"text_{chain}_{level}"
            columns[name] = ask(_prompt(chain, f"{{{above}}}"))
            above = name
    return chatan.dataset(columns)


def _check(frame: pd.DataFrame, rows: int) -> None:
    """Only whole tables count."""
    missing = int(frame.isna().sum().sum())
    if len(frame) != rows or missing:
        raise RuntimeError(f"{len(frame)} of {rows} rows, {missing} cells missing")


def _aiohttp_client(url: str) -> Client:
    import aiohttp
    import orjson

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS)

    async def ask(prompt: str) -> str:
        async with session.post(f"{url}/chat/completions", data=_body(prompt)) as response:
            return _text(orjson.loads(await response.read()))

    return ask, session.close


def _transport_client(url: str) -> Client:
    import orjson

    from chatan.providers.http import Transport

    transport = Transport()

    async def ask(prompt: str) -> str:
        reply = await transport.post(f"{url}/chat/completions", HEADERS, _body(prompt))
        return _text(orjson.loads(reply.body))

    return ask, transport.aclose


def _body(prompt: str) -> bytes:
    import orjson

    messages = [{"role": "user", "content": prompt}]
    return orjson.dumps({"model": "gpt-4.1-mini", "messages": messages})


def _text(answer: Any) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def _memory(name: str) -> int:
    """Bytes that the process holds (``VmRSS``), or has held at its peak (``VmHWM``), on Linux."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib would be an import
        lines = dict(line.split(":") for line in status)
    return int(lines[name].split()[0]) * 1024


def main() -> None:
    name, *given = sys.argv[1:]
    arguments: dict[str, Any] = {}
    for pair in given:
        key, _, value = pair.partition("=")
        arguments[key] = int(value) if value.isdecimal() else value
    figures = globals()[name](**arguments)
    import json

    print(json.dumps(figures))


if __name__ == "__main__":
    main()
