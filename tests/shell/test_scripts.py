"""The script that the README shows, as a user pastes it, over every kind of model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from servers import LanguageModelServer
from servers.llamacpp import endpoint

README = Path(__file__).parents[2] / "README.md"

ASYNC = """
import asyncio, chatan
async def main():
    gen = chatan.generator("openai", "your-api-key")
    ds = chatan.dataset({
        "language": chatan.sample.choice(["Python", "JavaScript", "Rust"]),
        "difficulty": chatan.sample.weighted({"easy": 0.5, "medium": 0.3, "hard": 0.2}),
        "question": gen("Write a {difficulty} coding question about {language}"),
        "solution": gen("Provide a solution for: {question}"),
    })
    df = await ds.generate(n=100)
    df.to_csv("coding_questions.csv")
    ds.save("dataset.parquet", format="parquet")
asyncio.run(main())
"""

PLAIN = textwrap.dedent(
    ASYNC.split("async def main():\n")[1].replace("await ", "").replace("asyncio.run(main())", "")
)


def run(script: str, folder: Path, **environment: str) -> None:
    code = f"import chatan\n{script}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def check(folder: Path, rows: int) -> None:
    written = pd.read_csv(folder / "coding_questions.csv", index_col=0)
    saved = pd.read_parquet(folder / "dataset.parquet")
    for frame in (written, saved):
        assert list(frame.columns) == ["language", "difficulty", "question", "solution"]
        assert len(frame) == rows
        assert frame.notna().all(axis=None)
    assert set(saved["language"]) <= {"Python", "JavaScript", "Rust"}


@pytest.mark.parametrize("script", [ASYNC, PLAIN], ids=["async", "plain"])
def test_openai(tmp_path: Path, llm_server: LanguageModelServer, script: str) -> None:
    service = llm_server.endpoint()
    run(script, tmp_path, OPENAI_BASE_URL=service.openai)
    check(tmp_path, 100)
    requests = service.requests()
    assert len(requests) == 200
    assert {request["headers"]["authorization"] for request in requests} == {"Bearer your-api-key"}
    saved = pd.read_parquet(tmp_path / "dataset.parquet")
    asked = [request["body"]["messages"] for request in requests]
    for question in saved["question"]:
        assert [{"role": "user", "content": f"Provide a solution for: {question}"}] in asked


@pytest.mark.parametrize("script", [ASYNC, PLAIN], ids=["async", "plain"])
def test_anthropic(tmp_path: Path, llm_server: LanguageModelServer, script: str) -> None:
    service = llm_server.endpoint()
    script = script.replace('"openai"', '"anthropic"')
    run(script, tmp_path, ANTHROPIC_BASE_URL=service.anthropic)
    check(tmp_path, 100)
    assert len(service.requests()) == 200


def few(script: str, generator: str) -> str:
    """The script with another generator, and of a size for a real model on a CPU."""
    script = script.replace('chatan.generator("openai", "your-api-key")', generator)
    return script.replace("n=100", "n=4")


def test_the_embedded_model(tmp_path: Path, embedded_model: Path) -> None:
    run(few(ASYNC, 'chatan.generator("local", max_tokens=24)'), tmp_path)
    check(tmp_path, 4)


def test_a_server_that_speaks_as_openai_does(tmp_path: Path, embedded_model: Path) -> None:
    with endpoint(embedded_model) as base_url:
        generator = f'chatan.generator("openai", base_url={base_url!r}, max_tokens=24)'
        run(few(PLAIN, generator), tmp_path, OPENAI_API_KEY="sk-not-for-this-server")
    check(tmp_path, 4)


def test_a_transformers_model_in_the_process(tmp_path: Path, tiny_model: str) -> None:
    generator = f'chatan.generator("transformers", model={tiny_model!r}, max_tokens=8)'
    run(few(PLAIN, generator), tmp_path)
    check(tmp_path, 4)


def test_the_first_code_of_the_readme(tmp_path: Path, llm_server: LanguageModelServer) -> None:
    match = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert match is not None
    run(match[1], tmp_path, OPENAI_BASE_URL=llm_server.endpoint().openai)
    assert len(pd.read_parquet(tmp_path / "coding_questions.parquet")) == 100
