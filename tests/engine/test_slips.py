"""Slips of the pen at the public verbs: each gets a word that helps, and nothing is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import chatan
from engine.echo import echo


def test_saving_before_anything_was_made(tmp_path: Path) -> None:
    ds = chatan.dataset({"a": "x"}, n=3)
    with pytest.raises(ValueError, match=r"call ds\.generate\(n\) first"):
        ds.save(tmp_path / "a.csv")
    ds.generate(0)
    assert ds.save(tmp_path / "a.csv").read_text() == '"a"\n'


def test_saving_what_is_stale_warns(tmp_path: Path) -> None:
    gen, _ = echo()
    ds = chatan.dataset({"q": gen("Hi")})
    ds.generate(2)
    ds["q"].prompt = "Ho"
    with pytest.warns(UserWarning, match="2 cells are missing or stale"):
        ds.save(tmp_path / "a.jsonl")
    assert "2 cells stale" in repr(ds)


def test_misspelt_limits_name_the_verb_that_was_called() -> None:
    with pytest.raises(TypeError, match=r"generate\(\) got an unexpected keyword argument"):
        chatan.dataset({"a": "x"}).generate(2, concurency=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("wrong", [5, ["sk-1"]])
def test_keys_and_urls_of_another_type(wrong: Any) -> None:
    with pytest.raises(TypeError, match="api_key is a text"):
        chatan.generator("openai", wrong)
    with pytest.raises(TypeError, match="base_url is a text"):
        chatan.generator("openai", "sk-1", base_url=wrong)


def test_a_prompt_called_with_no_dictionary() -> None:
    gen, provider = echo()
    with pytest.raises(TypeError, match="a dictionary of its columns"):
        gen("Hi {x}")("B")
    assert provider.calls == 0


def test_only_finished_rows_on_request() -> None:
    ds = chatan.dataset({"n": chatan.sample.range(1, 9), "f": lambda n: 1 // (n % 2)})
    with pytest.warns(chatan.FailedCells, match=r"f: function x"):
        ds.generate(20)
    assert ds.to_arrow(finished=True).num_rows == 20  # a failed cell is settled
