"""The benchmarks: one command measures them all and prints one table.

``python tests/bench/run.py`` takes some minutes; ``python tests/bench/run.py cpu import``
measures these cases, ``--scale 0.1`` makes a tenth of the rows, ``--output FILE`` writes the
table, in Markdown, to a file too (in ``README.md`` to its place). The server answers in a
process of its own, and each measurement has a fresh process: its CPU and memory are the client's
alone (memory is read as Linux tells it). Every figure is the best of its repeats; its floors were
measured by turns with it.
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
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def table(figures: Iterable[Figure], *, judged: bool = True) -> str:
    """The figures as a table in Markdown; ``judged`` by their targets, where they have one."""
    lines = [["work", "figure", "measured", "target", "met", "floors in the same run"]]
    for figure in figures:
        floors = [
            f"{name} {_shown(floor, figure.unit)} ({figure.value / floor:.2f} ×)"
            for name, floor in figure.floors.items()
        ]
        target, met = "", ""
        if figure.target is not None:
            target = f"≤ {figure.target:g} {figure.unit}"
            met = "yes" if figure.value <= figure.target else "NO"
        value = _shown(figure.value, figure.unit)
        lines.append([figure.work, figure.what, value, target, met, ", ".join(floors)])
    if not judged:
        lines = [[*line[:3], line[5]] for line in lines]
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
    made = f"{began} when it began; best of {given.repeats}."
    print(f"{table(figures)}\n\n{made}")
    if given.output:
        write(f"{table(figures, judged=False)}\n\n{made}", given.output)


def write(text: str, path: Path) -> None:
    """Write a table to a file, between the marks where the file has them."""
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    before, start, rest = held.partition("<!-- benchmarks -->\n")
    _, end, after = rest.partition("<!-- /benchmarks -->")
    whole = f"{before}{start}{text}\n{end}{after}" if start and end else f"{text}\n"
    path.write_text(whole, encoding="utf-8")


if __name__ == "__main__":
    main()
