"""The benchmarks: one command measures them all and prints one table.

``python tests/bench/run.py`` takes about five minutes; ``python tests/bench/run.py cpu import``
measures these cases, ``--scale 0.1`` a tenth of the rows, ``--output FILE`` writes the table, in
Markdown, to a file too. The server answers in a process of its own, and each measurement has a
fresh process: its CPU and memory are the client's alone. Every figure is the best of its
repeats; the floors were measured in turn with it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])
    __package__ = "bench"

from bench.cases import CASES, Bench, Figure
from servers import language_model


def apart(name: str, arguments: Mapping[str, Any]) -> dict[str, float]:
    """A measurement in a fresh process, beyond the reach of proxies."""
    given = [f"{key}={value}" for key, value in arguments.items()]
    command = [sys.executable, str(Path(__file__).with_name("measure.py")), name, *given]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def table(figures: Iterable[Figure]) -> str:
    """The figures as a table in Markdown.

    >>> print(table([Figure("import", "CPU", 80, "ms", 150, {"import asyncio": 40})]))
    | work   | figure | measured | target   | met | floors in the same run       |
    | ------ | ------ | -------- | -------- | --- | ---------------------------- |
    | import | CPU    | 80.0 ms  | ≤ 150 ms | yes | import asyncio 40.0 ms (2.0 x) |
    """
    lines = [["work", "figure", "measured", "target", "met", "floors in the same run"]]
    for figure in figures:
        held = figure.target is not None
        floors = [
            f"{name} {_shown(floor, figure.unit)} ({figure.value / floor:.2f} ×)"
            for name, floor in figure.floors.items()
        ]
        lines.append(
            [
                figure.work,
                figure.what,
                _shown(figure.value, figure.unit),
                f"≤ {figure.target:g} {figure.unit}" if held else "",
                ("yes" if figure.value <= figure.target else "NO") if held else "",
                ", ".join(floors),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}"


def machine() -> str:
    """Where and when, in a line: figures of other machines differ."""
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load average {load}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}: all")
    parser.add_argument("--scale", type=float, default=1.0, help="what part of the rows to make")
    parser.add_argument("--repeats", type=int, default=3, help="how often to measure each")
    parser.add_argument("--output", type=Path, help="a file to write the table to")
    given = parser.parse_args(arguments)
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    figures: list[Figure] = []
    began = machine()
    with language_model() as server:
        bench = Bench(server, apart, scale=given.scale, repeats=given.repeats)
        for name in given.cases or CASES:
            print(f"{name} ...", file=sys.stderr, flush=True)
            figures += CASES[name](bench)
    text = f"{table(figures)}\n\n{began} when it began; best of {given.repeats}."
    print(text)
    if given.output:
        given.output.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
