"""The embedded model, asked for real: answers, seeds, limits, errors, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from asking import PERSON, ask, error_of, texts
from chatan.providers import llamacpp, weights
from chatan.providers.base import AnswerFormat, Completion, ProviderError, Request
from chatan.providers.local import EMBEDDED, LocalProvider
from chatan.providers.openai import OpenAIProvider
from servers.llamacpp import endpoint


@pytest.fixture(scope="module")
def local(embedded_model: Path) -> LocalProvider:
    return LocalProvider(context=512)


def process_of(provider: LocalProvider) -> psutil.Process:
    server = llamacpp.running[provider._settings(EMBEDDED)]
    assert isinstance(server, llamacpp.ServerProcess)
    return psutil.Process(server.pid)


async def test_answers_are_whole_completions(local: LocalProvider) -> None:
    (answer,) = await ask(local, ["Hi"], temperature=0)
    assert isinstance(answer, Completion)
    assert answer.text.startswith("Hello!")
    assert answer.finish_reason == "stop"
    assert 25 < answer.usage.input_tokens < 40
    assert 0 < answer.usage.output_tokens < 12
    assert answer.latency > 0
    assert EMBEDDED in answer.model


async def test_text_is_repeatable_whoever_is_asked_at_the_same_time(local: LocalProvider) -> None:
    prompts = [f"Write about topic {number}." for number in range(4)]
    together = texts(await ask(local, prompts))
    alone = [
        (await ask(local, [prompt], draws=[1_000_000_000_000 + number]))[0].text
        for number, prompt in reversed(list(enumerate(prompts)))
    ]
    assert together == alone[::-1]


async def test_draws_differ_and_a_seed_pins_them(local: LocalProvider) -> None:
    prompts = ["Write about a topic."] * 3
    assert len(set(texts(await ask(local, prompts)))) > 1
    assert len(set(texts(await ask(local, prompts, seed=3)))) == 1
    assert len(set(texts(await ask(local, prompts, temperature=0)))) == 1


async def test_limits_and_stops_are_obeyed(local: LocalProvider) -> None:
    (cut,) = await ask(local, ["Count from one to fifty."], max_tokens=5)
    assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 5)
    counting = {"temperature": 0, "max_tokens": 30}
    (whole,) = await ask(local, ["Count: 1, 2, 3, 4"], **counting)
    word = whole.text.split()[1]
    (stopped,) = await ask(local, ["Count: 1, 2, 3, 4"], stop=word, **counting)
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text.partition(word)[0]


async def test_structured_answers_fit(local: LocalProvider) -> None:
    for answer in await ask(local, ["Invent a person."] * 2, answer=PERSON, max_tokens=120):
        person = json.loads(answer.text)
        assert person.keys() == {"name", "age", "likes"}
        assert 1 <= person["age"] <= 99
        assert person["likes"] in ("tea", "coffee")


async def test_a_prompt_beyond_the_context_fails_alone(local: LocalProvider) -> None:
    long, short = await ask(local, ["word " * 600, "Hi"])
    assert isinstance(short, Completion)
    assert isinstance(long, ProviderError)
    assert (long.kind, long.scope) == ("too_long", "cell")


async def test_half_a_character_fails_its_cell(local: LocalProvider) -> None:
    error = await error_of(local, "\ud800")
    assert (error.kind, error.scope) == ("bad_request", "cell")


async def test_a_schema_that_cannot_be_followed_stops_the_run(local: LocalProvider) -> None:
    error = await error_of(local, answer=AnswerFormat("a", {"type": "never"}))
    assert (error.kind, error.scope) == ("bad_parameter", "run")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temperatur": 1}, "did you mean 'temperature'"),
        ({"repetition_penalty": 1.1}, "did you mean 'repeat_penalty'"),
        ({"max_completion_tokens": 5}, "did you mean 'max_tokens'"),
        ({"frobnicate": 5}, "It takes frequency_penalty"),
        ({"temperature": -1}, "temperature=-1: write a number from 0"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 1.1}, "from 0 to 1"),
        ({"top_k": 1.5}, "a whole number"),
        ({"max_tokens": 0}, "from 1"),
        ({"max_tokens": True}, "max_tokens=True"),
        ({"stop": ""}, "stop=''"),
        ({"stop": [1]}, "a list of such texts"),
    ],
)
def test_wrong_parameters_are_refused_before_any_call(
    parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        LocalProvider().prepare(EMBEDDED, parameters, None)


@pytest.mark.parametrize("options", [{"threads": 0}, {"slots": -1}, {"context": 1.5}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="write a whole number from 1"):
        LocalProvider(**options)


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'llama-3' is no file: write the path of a \.gguf file"):
        LocalProvider("llama-3").prepare("llama-3", {}, None)


async def test_without_the_weights_one_line_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATAN_CACHE", str(tmp_path))
    error = await error_of(LocalProvider())
    assert (error.kind, error.scope) == ("unknown_model", "run")
    assert str(error).endswith("run: chatan model fetch")


async def test_without_the_library_one_line_says_what_to_install(
    embedded_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    error = await error_of(LocalProvider(context=600))
    assert (error.kind, error.scope) == ("unknown_model", "run")
    assert "pip install 'chatan-nb[local]'" in str(error)


@pytest.mark.parametrize("content", [b"", b"no model", b"GGUF\x03\0\0\0" + bytes(20)])
async def test_a_file_that_is_no_model_stops_the_run(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    error = await error_of(LocalProvider(file))
    assert (error.kind, error.scope) == ("unknown_model", "run")
    assert str(file) in str(error)


async def test_any_other_file_is_a_model_too(embedded_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "my model.gguf"
    shutil.copy(embedded_model, file)
    provider = LocalProvider(file, context=256, slots=1)
    (answer,) = await ask(provider, ["Hi"], temperature=0)
    assert answer.text.startswith("Hello!")
    assert "my model.gguf" in answer.model
    assert provider.model_identity(str(file)) == weights.SHA256
    assert provider.model_identity(EMBEDDED) == weights.SHA256


async def test_generators_with_equal_settings_share_one_process(local: LocalProvider) -> None:
    await ask(local, ["Hi"])
    process = process_of(local)
    others = [LocalProvider(context=512), LocalProvider(weights.path(), context=512)]
    for other in others:
        await ask(other, ["Hi"])
        assert process_of(other) == process
    assert [other.identity for other in others] == [local.identity] * 2
    assert LocalProvider(context=600).identity != local.identity


async def test_no_port_is_open_and_the_socket_is_private(local: LocalProvider) -> None:
    await ask(local, ["Hi"])
    process = process_of(local)
    assert process.net_connections(kind="inet") == []
    listening = psutil.Process().net_connections(kind="tcp")
    assert not [each for each in listening if each.status == psutil.CONN_LISTEN]
    server = llamacpp.running[local._settings(EMBEDDED)]
    assert Path(server.socket or "").parent.stat().st_mode & 0o777 == 0o700
    assert os.getsid(process.pid) != os.getsid(0)  # Ctrl-C in this terminal does not reach it


async def test_the_loop_goes_on_while_the_model_is_loaded(embedded_model: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    provider = LocalProvider(context=300, slots=1)
    settings = provider._settings(EMBEDDED)
    server = await provider._server(settings)
    counting.cancel()
    assert turns > 1000
    llamacpp.running.pop(settings)
    server.stop()


async def test_a_cancelled_call_frees_its_slot(embedded_model: Path) -> None:
    provider = LocalProvider(context=4096, slots=1)
    endless = AnswerFormat(
        "numbers",
        {
            "type": "object",
            "properties": {
                name: {"type": "array", "items": {"enum": [1]}, "minItems": 400} for name in "abcd"
            },
            "required": list("abcd"),
        },
    )
    call = provider.prepare(EMBEDDED, {"max_tokens": 4000}, endless)
    task = asyncio.create_task(provider.complete(Request(call, [{"role": "user", "content": "1"}])))
    settings = provider._settings(EMBEDDED)
    while settings not in llamacpp.running:
        await asyncio.sleep(0.01)
    process = process_of(provider)
    busy = process.cpu_times().user
    while process.cpu_times().user < busy + 0.5:
        await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(30):  # far less than so many tokens take
        (answer,) = await ask(provider, ["Hi"], max_tokens=3)
    assert isinstance(answer, Completion)
    llamacpp.running.pop(settings).stop()


async def test_a_server_that_died_is_started_anew(embedded_model: Path) -> None:
    provider = LocalProvider(context=400, slots=1)
    (before,) = await ask(provider, ["Hi"])
    process = process_of(provider)
    folder = Path(llamacpp.running[provider._settings(EMBEDDED)].socket or "").parent
    process.kill()
    process.wait()
    error = await error_of(provider)
    assert (error.kind, error.scope) == ("connection", "later")
    assert not folder.exists()
    (after,) = await ask(provider, ["Hi"])
    assert after.text == before.text


@pytest.fixture
def in_this_process(
    monkeypatch: pytest.MonkeyPatch, embedded_model: Path
) -> Iterator[LocalProvider]:
    """Where there is no interpreter to start, as inside of other programs."""
    monkeypatch.setattr(sys, "executable", "")
    provider = LocalProvider(context=320, slots=2)
    yield provider
    llamacpp.running.pop(provider._settings(EMBEDDED)).stop()


async def test_without_a_process_of_its_own_the_answers_are_the_same(
    in_this_process: LocalProvider, local: LocalProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    prompts = [f"Write about topic {number}." for number in range(2)]
    here = await ask(in_this_process, prompts)
    server = llamacpp.running[in_this_process._settings(EMBEDDED)]
    assert isinstance(server, llamacpp.ServerHere)
    assert texts(here) == texts(await ask(local, prompts))
    too_long = await error_of(in_this_process, "word " * 600)
    assert (too_long.kind, too_long.scope) == ("too_long", "cell")
    refused = await error_of(in_this_process, answer=AnswerFormat("a", {"type": "never"}))
    assert (refused.kind, refused.scope) == ("bad_parameter", "run")
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import asyncio, os, sys
from chatan.providers import llamacpp
from chatan.providers.base import Request
from chatan.providers.local import EMBEDDED, LocalProvider

provider = LocalProvider(context=256, slots=2)

async def ask():
    call = provider.prepare(EMBEDDED, {"max_tokens": 8}, None)
    answer = await provider.complete(Request(call, [{"role": "user", "content": "Hi"}], 7))
    await provider.aclose()
    return answer.text

text = asyncio.run(ask())
(server,) = llamacpp.running.values()
"""


def run(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT + script]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_it_says_nothing_and_leaves_nothing_however_the_program_ends(
    end: str, embedded_model: Path, tmp_path: Path
) -> None:
    done = run(f"os.write(1, f'{{server.pid}} {{server.socket}}'.encode())\n{end}")
    assert done.stderr == ""
    pid, socket = done.stdout.split()  # and nothing but this
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(pid)).wait(30)
    assert not Path(socket).parent.exists()


def test_a_forked_child_asks_the_same_model(embedded_model: Path) -> None:
    done = run(
        """
child = os.fork()
if not child:
    sys.exit(0 if asyncio.run(ask()) == text else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert asyncio.run(ask()) == text  # the child's end has not ended it
assert server.answers()
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_it_is_light() -> None:
    heavy = ["xllamacpp", "aiohttp", "openai", "pydantic", "torch", "numpy", "pandas", "pyarrow"]
    code = f"import sys, chatan.providers.local; sys.exit(str(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr == "set()\n"


async def test_its_own_server_is_an_openai_endpoint(embedded_model: Path) -> None:
    with endpoint(embedded_model) as base_url:
        provider = OpenAIProvider(base_url=base_url)
        (answer,) = await ask(provider, ["Hi"], temperature=0)
        assert answer.text.startswith("Hello!")
        (person,) = await ask(provider, ["Invent a person."], answer=PERSON, max_tokens=120)
        assert json.loads(person.text)["likes"] in ("tea", "coffee")
        long, short = await ask(provider, ["word " * 1500, "Hi"])
        assert isinstance(short, Completion)
        assert (long.kind, long.scope) == ("too_long", "cell")
