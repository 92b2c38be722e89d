"""A real model in this process: batches, seeds, limits, schemas, and every way to fail."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asking
import tiny_model as tiny
from asking import PERSON, error_of, form, texts
from chatan.providers import torch_worker
from chatan.providers.base import Completion, ProviderError, Request
from chatan.providers.torch_batch import Row, Sampling, _Batch
from chatan.providers.torch_model import ModelSettings, TorchModel
from chatan.providers.transformers import TransformersProvider

ask = partial(asking.ask, max_tokens=16, temperature=1.0)

PROMPTS = [f"Write about topic {number}. " + "More! " * (number % 7) for number in range(16)]


def loaded(provider: TransformersProvider) -> TorchModel:
    return torch_worker._worker._models[provider._named("")]


async def test_answers_are_whole_completions(tiny_model: str) -> None:
    for answer in await ask(TransformersProvider(tiny_model), PROMPTS):
        assert isinstance(answer, Completion)
        assert answer.text.strip()
        assert answer.finish_reason in ("stop", "length")
        assert 5 < answer.usage.input_tokens < 80
        assert 0 < answer.usage.output_tokens <= 16
        assert answer.latency > 0
        assert answer.model == tiny_model
        assert "<|" not in answer.text


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 1.0},
        {"temperature": 0},
        {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.01},
        {"temperature": 0.9, "repetition_penalty": 1.3},
    ],
)
async def test_text_does_not_depend_on_the_batch(
    tiny_model: str, parameters: dict[str, Any]
) -> None:
    alone = await ask(TransformersProvider(tiny_model, batch_size=1), PROMPTS, **parameters)
    eight = await ask(TransformersProvider(tiny_model, batch_size=8), PROMPTS, **parameters)
    all_, backwards = TransformersProvider(tiny_model), range(1_000_000_000_015, 0, -1)
    other = await ask(all_, PROMPTS[::-1], draws=backwards, **parameters)
    assert texts(alone) == texts(eight) == texts(other)[::-1]
    assert len(set(texts(alone))) > 12  # prompts differ, and so do their answers


async def test_draws_differ_and_a_seed_pins_them(tiny_model: str) -> None:
    provider, same = TransformersProvider(tiny_model), ["Hi"] * 8
    assert len(set(texts(await ask(provider, same)))) == 8
    assert len(set(texts(await ask(provider, same, draws=[5] * 8)))) == 1
    assert len(set(texts(await ask(provider, same, seed=5)))) == 1
    assert len(set(texts(await ask(provider, same, temperature=0)))) == 1
    assert len(set(texts(await ask(provider, same, temperature=None)))) == 1  # the model's own


@pytest.mark.parametrize("temperature", [0.5, 1.0])
async def test_sampling_follows_the_model_s_distribution(
    tiny_model: str, temperature: float
) -> None:
    import torch

    provider = TransformersProvider(tiny_model)
    await ask(provider, ["Hi"])
    model = loaded(provider)
    wanted = torch.tensor([0.4, 0.3, 0.2, 0.1])
    scores = torch.full((4000, model.vocabulary), -torch.inf)
    scores[:, 10:14] = wanted.log() * temperature
    rows = [Row([], Sampling(temperature), seed, 1) for seed in range(len(scores))]
    chosen = Counter(_Batch(model, rows).choose(None, scores).argmax(-1).tolist())
    assert chosen.keys() == {10, 11, 12, 13}
    for token, share in enumerate(wanted.tolist(), 10):
        spread = math.sqrt(len(rows) * share * (1 - share))
        assert abs(chosen[token] - len(rows) * share) < 5 * spread


async def test_the_ends_of_answers(tiny_model: str) -> None:
    provider = TransformersProvider(tiny_model)
    (cut,) = await ask(provider, ["Hi"], max_tokens=3)
    assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 3)
    (whole,) = await ask(provider, ["Hi"], temperature=0)
    word = max(re.findall(r"[a-z]+", whole.text[1:]), key=len)
    for stop in (word, [word[0], "never"], ["never", word[-1]]):
        (stopped,) = await ask(provider, ["Hi"], temperature=0, stop=stop)
        letters = word if isinstance(stop, str) else max(stop, key=lambda text: text in word)
        assert stopped.text == whole.text.partition(letters)[0]
        assert stopped.finish_reason == "stop"
        assert stopped.usage.output_tokens < whole.usage.output_tokens


async def test_an_answer_ends_where_the_context_does(tiny_model: str) -> None:
    provider = TransformersProvider(tiny_model)
    prompts = ["x" * 240, "x" * 500, "Hi"]
    almost, beyond, short = await ask(provider, prompts, max_tokens=60)
    assert almost.usage.input_tokens + almost.usage.output_tokens <= tiny.CONTEXT
    assert isinstance(beyond, ProviderError)
    assert (beyond.kind, beyond.scope) == ("too_long", "cell")
    assert isinstance(short, Completion)


async def test_structured_answers_fit_row_by_row(tiny_model: str) -> None:
    provider = TransformersProvider(tiny_model)
    colour = form(
        colour={"enum": ["red", "green"]},
        shades={
            "type": "array",
            "maxItems": 2,
            "items": {"type": "integer", "minimum": 0, "maximum": 9},
        },
    )
    people, colours, free = await asyncio.gather(
        ask(provider, PROMPTS[:8], answer=PERSON, max_tokens=120),
        ask(provider, PROMPTS[:8], answer=colour, max_tokens=120),
        ask(provider, PROMPTS[:8], max_tokens=120),
    )
    for wanted, answers in ((PERSON, people), (colour, colours)):
        for answer in answers:
            assert answer.finish_reason == "stop"
            jsonschema_rs.validate(dict(wanted.schema), json.loads(answer.text))
    assert len({answer.text for answer in people}) > 1
    assert all(isinstance(answer, Completion) for answer in free)


async def test_a_structured_answer_that_does_not_end_is_cut(tiny_model: str) -> None:
    long = form(name={"type": "string", "minLength": 100})
    (answer,) = await ask(TransformersProvider(tiny_model), ["Hi"], answer=long, max_tokens=10)
    assert answer.finish_reason == "length"


def test_a_schema_that_cannot_be_followed_is_refused_at_once(tiny_model: str) -> None:
    wrong = form(name={"type": "never"})
    with pytest.raises(ValueError, match="never"):
        TransformersProvider().prepare(tiny_model, {}, wrong)


@given(
    st.one_of(
        st.tuples(st.just("temperature"), st.floats(max_value=-1e-9) | st.text()),
        st.tuples(st.just("top_p"), st.floats(min_value=1.0001) | st.just(math.nan)),
        st.tuples(st.just("max_tokens"), st.integers(max_value=0) | st.floats() | st.booleans()),
        st.tuples(st.just("stop"), st.integers() | st.just("") | st.just([""])),
        st.tuples(st.text(min_size=30), st.none()),
    )
)
def test_wrong_parameters_are_refused_by_name(parameter: tuple[str, Any]) -> None:
    name, value = parameter
    with pytest.raises(ValueError, match=re.escape(name) + "|" + re.escape(repr(name))):
        TransformersProvider().prepare("m", {name: value}, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"dtype": "int8"}, "write one of 'float32'"), ({"batch_size": 0}, "batch_size=0: write")],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TransformersProvider(**options)


def test_no_model_is_chosen_for_the_user() -> None:
    provider = TransformersProvider()
    with pytest.raises(ValueError, match=r"name the model, for example generator\('transformers'"):
        provider.prepare(provider.default_model, {}, None)


async def test_columns_that_name_the_same_model_share_it(tiny_model: str) -> None:
    first, second = TransformersProvider(tiny_model), TransformersProvider()
    await ask(first, ["Hi"])
    model = loaded(first)
    call = second.prepare(os.path.relpath(tiny_model), {"max_tokens": 2}, None)
    await second.complete(Request(call, [{"role": "user", "content": "Hi"}]))
    assert loaded(first) is model
    assert second._named(tiny_model) == first._named("")
    assert len(first.model_identity(tiny_model)) == 64
    assert first.model_identity(tiny_model) == second.model_identity(os.path.relpath(tiny_model))


async def test_torch_works_in_one_thread_and_in_full_batches(tiny_model: str) -> None:
    provider = TransformersProvider(tiny_model, batch_size=8)
    await ask(provider, ["Hi"])
    model = loaded(provider).model
    threads, sizes = set(), []
    forward = model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        threads.add(threading.current_thread().name)
        sizes.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    model.forward = watched
    try:
        await ask(provider, PROMPTS)
    finally:
        model.forward = forward
    assert threads == {"chatan-torch"}
    assert set(sizes) == {8}  # those that one turn of the loop brings are a batch at once


@pytest.mark.parametrize("most", [0, 2])
async def test_a_batch_that_does_not_fit_in_memory_is_halved(tiny_model: str, most: int) -> None:
    import torch

    provider = TransformersProvider(tiny_model, dtype="float32")  # a model of its own
    expected = texts(await ask(provider, PROMPTS[:4]))
    model = loaded(provider).model
    forward = model.forward
    sizes = []

    def small(*args: Any, **kwargs: Any) -> Any:
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 TiB")
        return forward(*args, **kwargs)

    model.forward = small
    try:
        answers = await ask(provider, PROMPTS[:4])
    finally:
        model.forward = forward
        torch_worker._worker._limits.clear()
    if most:
        assert texts(answers) == expected
        assert sorted(set(sizes)) == [2, 4]
    else:
        assert {(error.kind, error.scope) for error in answers} == {("too_long", "cell")}


async def test_a_model_that_fails_fails_its_rows_only(tiny_model: str) -> None:
    provider = TransformersProvider(tiny_model)
    await ask(provider, ["Hi"])
    model = loaded(provider).model
    forward = model.forward

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied\n(with many details)")

    model.forward = broken
    try:
        error = await error_of(provider)
    finally:
        model.forward = forward
    assert (error.kind, error.scope) == ("server", "later")
    assert "shapes cannot be multiplied" in str(error)
    assert all(isinstance(answer, Completion) for answer in await ask(provider, PROMPTS))


async def test_cancelled_calls_stop_the_batch_and_nothing_else(tiny_model: str) -> None:
    provider = TransformersProvider(tiny_model, batch_size=2)
    call = provider.prepare(tiny_model, {"max_tokens": 60, "temperature": 1.0}, None)
    messages = [{"role": "user", "content": "Hi"}]
    running = [
        asyncio.create_task(provider.complete(Request(call, messages, draw))) for draw in range(4)
    ]
    (first,) = await ask(provider, ["Hi"])
    for task in running:
        task.cancel()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(each, Completion | asyncio.CancelledError) for each in outcomes)
    await provider.aclose()
    assert texts(await ask(provider, ["Hi"])) == [first.text]


async def test_without_a_chat_template_messages_are_joined(tmp_path: Path) -> None:
    provider = TransformersProvider(tiny.make(tmp_path, template=None))
    await ask(provider, ["Hi"])
    model = loaded(provider)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert model.decode(model.encode(messages)) == "Be brief.\n\nHi"


async def test_a_template_that_refuses_fails_the_cell(tmp_path: Path) -> None:
    refusing = "{{ raise_exception('System role not supported') }}"
    error = await error_of(TransformersProvider(tiny.make(tmp_path, template=refusing)))
    assert (error.kind, error.scope) == ("bad_request", "cell")
    assert "System role not supported" in str(error)


async def test_half_a_character_fails_its_cell(tiny_model: str) -> None:
    bad, good = await ask(TransformersProvider(tiny_model), ["\ud800", "Hi"])
    assert isinstance(bad, ProviderError)
    assert (bad.kind, bad.scope) == ("bad_request", "cell")
    assert isinstance(good, Completion)


@pytest.mark.parametrize("model", ["./nowhere", "EMPTY"])
async def test_a_folder_without_a_model_stops_the_run(model: str, tmp_path: Path) -> None:
    error = await error_of(TransformersProvider(str(tmp_path) if model == "EMPTY" else model))
    assert (error.kind, error.scope) == ("unknown_model", "run")


async def test_a_name_that_cannot_be_downloaded_stops_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    provider = TransformersProvider("someone/a-model")
    error = await error_of(provider)
    assert (error.kind, error.scope) == ("unknown_model", "run")
    assert "someone/a-model" in str(error)
    with pytest.raises(ProviderError, match="someone/a-model"):
        provider.model_identity("")


async def test_program_code_of_a_model_is_not_run_unasked(tiny_model: str, tmp_path: Path) -> None:
    for file in Path(tiny_model).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    error = await error_of(TransformersProvider(tmp_path))
    assert (error.kind, error.scope) == ("bad_parameter", "run")
    assert "trust_remote_code=True" in str(error)
    assert not (tmp_path / "ran").exists()


async def test_without_the_library_one_line_says_what_to_install(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    error = await error_of(TransformersProvider(tiny_model, revision="other"))
    assert (error.kind, error.scope) == ("unknown_model", "run")
    assert "pip install 'chatan-nb[transformers]'" in str(error)


SCRIPT = """
import asyncio, os, sys
from chatan.providers.base import ProviderError, Request
from chatan.providers.transformers import TransformersProvider

async def ask(model):
    provider = TransformersProvider(model)
    call = provider.prepare(model, {"max_tokens": 8, "temperature": 1.0}, None)
    return (await provider.complete(Request(call, [{"role": "user", "content": "Hi"}], 7))).text
"""


def test_it_is_quiet_and_ends_with_the_program_and_works_after_a_fork(tiny_model: str) -> None:
    script = """
text = asyncio.run(ask(sys.argv[1]))
child = os.fork()
if not child:
    sys.exit(0 if asyncio.run(ask(sys.argv[1])) == text else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
async def leave():
    task = asyncio.create_task(ask(sys.argv[1]))
    await asyncio.sleep(0)
    sys.exit(5)
asyncio.run(leave())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", SCRIPT + script, tiny_model],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")


def test_importing_it_is_light() -> None:
    heavy = ["torch", "transformers", "llguidance", "tokenizers", "numpy", "pandas", "pydantic"]
    code = (
        "import sys, chatan.providers.transformers as t; t.TransformersProvider('m');"
        f"sys.exit(str(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr == "set()\n"


def test_a_folder_that_is_named_like_one_is_no_name_on_the_hub() -> None:
    assert ModelSettings("./nowhere").folder == Path("./nowhere")
    assert ModelSettings("someone/a-model").folder is None
