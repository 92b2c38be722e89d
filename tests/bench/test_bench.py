"""Every benchmark runs, at a tiny size and in this process; nothing is said of its figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import measure, run
from bench.cases import CASES, Bench, Figure
from servers import LanguageModelServer


def here(name: str, arguments: Mapping[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = getattr(measure, name)(**arguments)
    return figures


@pytest.mark.parametrize("name", CASES)
def test_case_runs(llm_server: LanguageModelServer, name: str) -> None:
    bench = Bench(llm_server, here, scale=0.0001, repeats=1, latency=5)
    figures = list(CASES[name](bench))
    assert figures
    for figure in figures:
        assert math.isfinite(figure.value)
        assert all(floor > 0 for floor in figure.floors.values())
    assert run.table(figures).count("\n") == 1 + len(figures)


def test_command_measures_in_processes_and_writes_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "table.md"
    run.main(["import", "cpu", "--scale", "0.0001", "--repeats", "1", "--output", str(output)])
    text = capsys.readouterr().out
    assert re.search(r"\| import chatan +\| CPU +\| [\d.]+ ms +\| ≤ 150 ms +\| (yes|NO) ", text)
    assert "chain of 2, 4 rows, 0 ms, 100 in flight" in text
    written = output.read_text(encoding="utf-8")
    assert len(written.splitlines()) == len(text.splitlines())
    assert re.search(r"\| import chatan +\| CPU +\| [\d.]+ ms +\| import asyncio ", written)


def test_table_takes_its_place_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Speed\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\n# Limits\n")
    for text in ("| first |", "| second |"):
        run.write(text, readme)
    assert readme.read_text() == (
        "# Speed\n<!-- benchmarks -->\n| second |\n<!-- /benchmarks -->\n# Limits\n"
    )


def test_least_of_each_figure_is_kept_and_measurements_take_turns(
    llm_server: LanguageModelServer,
) -> None:
    order: list[str] = []

    def measured(name: str, arguments: Mapping[str, Any]) -> dict[str, float]:
        order.append(name)
        return {"cpu": -len(order), "wall": len(order)}

    bench = Bench(llm_server, measured, repeats=2)
    assert bench.least(("a", {}), ("b", {})) == [{"cpu": -3, "wall": 1}, {"cpu": -4, "wall": 2}]
    assert order == ["a", "b", "a", "b"]


def test_table_says_what_is_met_and_how_far_the_floor_is() -> None:
    figures = [
        Figure("import", "CPU", 0.19, "ms", 0.2, {"loop": 0.095}),
        Figure("import", "CPU", 0.21, "ms", 0.2),
        Figure("import", "CPU", 0.21, "ms"),
    ]
    head, rule, *lines = run.table(figures).splitlines()
    assert re.fullmatch(r"(\| -+ )+\|", rule)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][2:] == ["0.19 ms", "≤ 0.2 ms", "yes", "loop 0.095 ms (2.00 ×)"]
    assert cells[1][2:] == ["0.21 ms", "≤ 0.2 ms", "NO", ""]
    assert cells[2][2:] == ["0.21 ms", "", "", ""]
    assert len({len(line) for line in [head, rule, *lines]}) == 1


def test_unknown_case_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["walls"])
    assert "no case walls; there are cpu, wall, tail" in capsys.readouterr().err
