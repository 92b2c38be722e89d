from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest

from servers import LanguageModelServer


def shell(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatan", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write(folder: Path, base_url: str, extra: str = "") -> None:
    source = f"""
        import chatan
        gen = chatan.generator("openai", "sk-test-key-123", base_url={base_url!r})
        ds = chatan.dataset({{
            "topic": chatan.sample.choice(["rain", "bread"]),
            "question": gen("Write a question about {{topic}}"),
            "length": lambda question: len(question),
        }})
    """
    (folder / "qa.py").write_text(textwrap.dedent(source) + textwrap.dedent(extra))


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_run_writes_the_rows(tmp_path: Path, llm_server: LanguageModelServer, suffix: str) -> None:
    write(tmp_path, llm_server.endpoint().openai)
    done = shell("run", "qa.py", "-n", "7", "-o", f"out.{suffix}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"7 rows -> out.{suffix}\n7 calls, ")
    assert done.stderr == ""
    path = tmp_path / f"out.{suffix}"
    frame = {
        "parquet": pd.read_parquet,
        "csv": pd.read_csv,
        "json": pd.read_json,
        "jsonl": lambda path: pd.DataFrame(map(json.loads, path.read_text().splitlines())),
    }[suffix](path)
    assert list(frame.columns) == ["topic", "question", "length"]
    assert frame["length"].tolist() == frame["question"].str.len().tolist()


def test_run_without_an_output_shows_the_rows(
    tmp_path: Path, llm_server: LanguageModelServer
) -> None:
    write(tmp_path, llm_server.endpoint().openai)
    done = shell("run", "qa.py", "-n", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "question" in done.stdout


def test_a_file_with_several_datasets_needs_a_name(
    tmp_path: Path, llm_server: LanguageModelServer
) -> None:
    write(tmp_path, llm_server.endpoint().openai, 'other = chatan.dataset({"a": "x"}, n=3)\n')
    done = shell("run", "qa.py", "-n", "2", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: which dataset of qa.py? it has ds, other: write qa.py:NAME\n"
    done = shell("run", "qa.py:other", "-o", "o.csv", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "o.csv")["a"].tolist() == ["x", "x", "x"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "missing.py"], "there is no Python file 'missing.py'"),
        (["run", "qa.py:dss", "-n", "1"], "qa.py has no dataset 'dss'; it has ds"),
        (["run", "qa.py"], "how many rows? write -n 100"),
        (["run", "qa"], "there is no Python file 'qa'"),
        (["run", "broken.py", "-n", "1"], "broken.py, line 3: ZeroDivisionError: division by zero"),
        (["run", "qa.py", "-n", "-3"], "from 0, not -3"),
        (["run", "qa.py", "-n", "1", "-o", "out.xlsx"], "xlsx"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    tmp_path: Path, llm_server: LanguageModelServer, arguments: list[str], told: str
) -> None:
    endpoint = llm_server.endpoint()
    write(tmp_path, endpoint.openai)
    (tmp_path / "broken.py").write_text("import chatan\n\nchatan.dataset({'a': 1 / 0})\n")
    done = shell(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert endpoint.requests() == []


def test_failed_cells_are_told_and_the_exit_code_says_so(
    tmp_path: Path, llm_server: LanguageModelServer
) -> None:
    write(tmp_path, llm_server.endpoint(fault="filter").openai)
    done = shell("run", "qa.py", "-n", "3", "-o", "out.jsonl", folder=tmp_path)
    assert done.returncode == 1
    assert "3 cells failed:\n  question: refused x 3: " in done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


def test_a_wrong_key_is_one_line_without_the_key(
    tmp_path: Path, llm_server: LanguageModelServer
) -> None:
    write(tmp_path, llm_server.endpoint(fault="401").openai)
    done = shell("run", "qa.py", "-n", "50", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "401" in done.stderr
    assert "sk-test-key-123" not in done.stderr


def test_an_interrupt_keeps_what_is_finished(
    tmp_path: Path, llm_server: LanguageModelServer
) -> None:
    endpoint = llm_server.endpoint(lat=200)
    write(tmp_path, endpoint.openai)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "chatan",
            "run",
            "qa.py",
            "-n",
            "5000",
            "-o",
            "out.jsonl",
            "--concurrency",
            "4",
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while len(endpoint.requests()) < 9:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    match = re.fullmatch(r"stopped with (\d+) rows finished -> out\.partial\.jsonl\n", stderr)
    assert match is not None, stderr
    lines = (tmp_path / "out.partial.jsonl").read_text().splitlines()
    assert len(lines) == int(match[1]) >= 4
    assert all(json.loads(line)["length"] for line in lines)
    assert not (tmp_path / "out.jsonl").exists()


def test_help_teaches() -> None:
    folder = Path.cwd()
    assert "chatan demo" in shell(folder=folder).stdout
    assert "chatan run qa.py -n 100 -o qa.parquet" in shell("run", "--help", folder=folder).stdout
    assert shell("model", folder=folder).returncode == 2
    assert shell("--version", folder=folder).stdout.startswith("chatan ")


def test_the_demo_makes_real_rows_with_the_embedded_model(tmp_path: Path) -> None:
    done = shell("demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "demo.parquet")
    assert list(frame.columns) == ["topic", "question", "answer", "words"]
    assert len(frame) == 12
    assert frame["answer"].str.strip().str.len().min() > 0
    assert frame["answer"].nunique() > 6
    assert "Q: " in done.stdout
