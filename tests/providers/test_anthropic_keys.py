"""Whom Anthropic's provider asks with which credentials; and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import pytest

from chatan.providers.anthropic import AnthropicProvider
from chatan.providers.base import ProviderError
from providers.asking import KEY, ask
from servers import LanguageModelServer

pytestmark = pytest.mark.usefixtures("bare_environment")


def test_options_name_the_arguments() -> None:
    import inspect

    parameters = set(inspect.signature(AnthropicProvider).parameters)
    assert AnthropicProvider.options == parameters


def test_default_model_is_one_that_the_sdk_names() -> None:
    from typing import get_args

    from anthropic.resources.messages.messages import DEPRECATED_MODELS
    from anthropic.types import ModelParam

    named = get_args(get_args(ModelParam)[0])
    default = AnthropicProvider.default_model
    assert default in named
    assert default not in DEPRECATED_MODELS
    assert "haiku" in default
    assert not [name for name in named[: named.index(default)] if "haiku" in name]  # newest first


async def test_no_key_is_an_error_when_a_call_is_sent() -> None:
    provider = AnthropicProvider()
    with pytest.raises(ProviderError, match="ANTHROPIC_API_KEY") as caught:
        await ask(provider)
    assert (caught.value.kind, caught.value.scope) == ("authentication", "run")


async def test_a_key_of_the_environment_stays_with_its_service(
    llm_server: LanguageModelServer, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"X-Secret: {KEY}")
    endpoint = llm_server.endpoint()
    await ask(AnthropicProvider(base_url=endpoint.anthropic, transport=transport))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", endpoint.anthropic)
    await ask(AnthropicProvider(transport=transport))
    by_hand, by_environment = endpoint.requests()
    assert KEY not in json.dumps(by_hand)
    assert by_environment["headers"]["authorization"] == f"Bearer {KEY}"
    assert by_environment["headers"]["x-secret"] == KEY


async def test_a_function_gives_the_key_of_each_call(llm_server: LanguageModelServer) -> None:
    keys = iter(["first-key", "second-key"])
    endpoint = llm_server.endpoint(fault="echo")

    async def key() -> str:
        return next(keys)

    provider = AnthropicProvider(key, base_url=endpoint.anthropic)
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            await ask(provider)
        assert "-key ***" in str(caught.value)
    sent = [request["headers"]["authorization"] for request in endpoint.requests()]
    assert sent == ["Bearer first-key", "Bearer second-key"]


@pytest.mark.parametrize("key", ["", " ", None, 7, "two\nlines"])
async def test_a_function_that_gives_no_key(llm_server: LanguageModelServer, key: Any) -> None:
    endpoint = llm_server.endpoint()
    provider = AnthropicProvider(lambda: key, base_url=endpoint.anthropic)
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    assert (caught.value.kind, caught.value.scope) == ("authentication", "run")
    assert "lines" not in str(caught.value)
    assert endpoint.requests() == []


async def test_a_profile_s_credentials_are_used(
    llm_server: LanguageModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint = llm_server.endpoint(fault="echo")
    config = {"base_url": endpoint.anthropic, "authentication": {"type": "user_oauth"}}
    for folder, content in (("configs", config), ("credentials", {"access_token": KEY})):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "default.json"
        file.write_text(json.dumps(content))
        file.chmod(0o600)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ProviderError, match=r"\*\*\*") as caught:
        await ask(AnthropicProvider())
    assert KEY not in str(caught.value)
    (sent,) = endpoint.requests()
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    (tmp_path / "configs" / "default.json").write_text("{}")
    with pytest.raises(ProviderError, match="authentication") as caught:
        await ask(AnthropicProvider())
    assert (caught.value.kind, caught.value.scope) == ("authentication", "run")


def test_no_key_shows() -> None:
    provider = AnthropicProvider(KEY)
    assert KEY not in repr(provider)
    assert KEY not in provider.identity
    assert provider.identity == AnthropicProvider(f" {KEY}\n").identity
    assert provider.identity != AnthropicProvider("sk-ant-another").identity
    assert provider.identity != AnthropicProvider(KEY, base_url="http://localhost").identity


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("localhost:8000", "no http"),
        ("ftp://localhost", "no http"),
        ("http://", "no http"),
        ("http://localhost:port", "no http"),
        ("http://localhost/v1/messages", "write 'http://localhost'"),
        ("http://localhost/?a=b", "query"),
        ("http://me:secret@localhost", "extra_headers"),
    ],
)
def test_addresses_that_cannot_be_asked(base_url: str, words: str) -> None:
    with pytest.raises(ProviderError, match=words) as caught:
        AnthropicProvider(KEY, base_url=base_url)
    assert (caught.value.kind, caught.value.scope) == ("bad_url", "run")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"api_key": "a", "auth_token": "b"}, ValueError, "exclude"),
        ({"timeout": 0}, ValueError, "above 0"),
        ({"timeout": "10"}, ValueError, "above 0"),
        ({"transport": "fast"}, ValueError, "'auto', 'lean' or 'sdk'"),
        ({"api_key": lambda: "k", "transport": "lean"}, ValueError, "transport='auto'"),
        ({"client": anthropic.Anthropic(api_key="k")}, TypeError, r"AsyncAnthropic\(\.\.\.\)"),
        ({"client": object()}, TypeError, "anthropic SDK"),
        ({"http_client": object()}, TypeError, "AsyncClient"),
        (
            {"client": anthropic.AsyncAnthropic(api_key="k"), "api_key": "k"},
            ValueError,
            "set them there",
        ),
        (
            {"client": anthropic.AsyncAnthropic(api_key="k"), "transport": "lean"},
            ValueError,
            "client=",
        ),
    ],
)
def test_arguments_that_cannot_be(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        AnthropicProvider(**arguments)


def test_the_lean_path_imports_no_sdk(llm_server: LanguageModelServer) -> None:
    code = f"""
import asyncio, sys
from chatan.providers.anthropic import AnthropicProvider
from chatan.providers.base import Request
light = set(sys.modules)
provider = AnthropicProvider("key", base_url={llm_server.url!r})
async def main():
    call = provider.prepare("m", {{}}, None)
    await provider.complete(Request(call, [{{"role": "user", "content": "Hello"}}]))
    await provider.aclose()
asyncio.run(main())
packages = lambda names: {{name.partition(".")[0] for name in names}}
print(packages(light) & {{"aiohttp", "anthropic", "openai", "httpx2", "pydantic"}})
print(packages(sys.modules) & {{"anthropic", "openai", "httpx2", "pydantic"}})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["set()", "set()"]
