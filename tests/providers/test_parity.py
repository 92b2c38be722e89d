"""The lean path sends what the SDKs send, and both paths give the same answers and errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from chatan.providers.anthropic import HEADERS, AnthropicProvider
from chatan.providers.base import Provider, ProviderError
from chatan.providers.openai import OpenAIProvider
from providers.asking import KEY, ask, ask_anthropic, ask_openai, comparable
from servers import LanguageModelServer, language_model
from servers.options import SHAPES

PROMPT = "Größe von „Zelle“?\n\t🦀 \u2028 \x7f"

pytestmark = pytest.mark.usefixtures("bare_environment", "few_certificates")


# What is sent


@dataclass(frozen=True)
class Case:
    """The same settings, for a provider and for its SDK; ``{url}`` is the server's."""

    service: str
    provider: Mapping[str, Any] = field(default_factory=dict)
    sdk: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    sdk_call: Mapping[str, Any] | None = None


def both(**arguments: Any) -> dict[str, Any]:
    return {"provider": arguments, "sdk": arguments}


HAND = both(api_key=KEY, base_url="{url}")
CASES = {
    "openai key": Case("openai", **HAND),
    "openai path and slash": Case("openai", **both(api_key=KEY, base_url="{url}/")),
    "openai organization": Case(
        "openai", **both(api_key=KEY, base_url="{url}", organization="org-1", project="proj_2")
    ),
    "openai environment": Case(
        "openai",
        environment={
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": "{url}/",
            "OPENAI_ORG_ID": "org-1",
            "OPENAI_PROJECT_ID": "proj_2",
            "OPENAI_CUSTOM_HEADERS": "X-Team: a: b\nnot a header\nX-Other : c",
        },
    ),
    "openai arguments over environment": Case(
        "openai",
        **both(api_key=KEY, organization="org-1"),
        environment={
            "OPENAI_API_KEY": "sk-not-this-one",
            "OPENAI_BASE_URL": "{url}",
            "OPENAI_ORG_ID": "org-not-this-one",
        },
    ),
    "openai headers": Case(
        "openai",
        provider={**HAND["provider"], "extra_headers": {"X-Team": "a", "accept": "*/*"}},
        sdk={**HAND["sdk"], "default_headers": {"X-Team": "a", "accept": "*/*"}},
        call={"extra_headers": {"x-team": "b", "X-Call": "1"}},
    ),
    "openai own authorization": Case(
        "openai",
        provider={**HAND["provider"], "extra_headers": {"authorization": "Basic bWU6aXQ="}},
        sdk={**HAND["sdk"], "default_headers": {"authorization": "Basic bWU6aXQ="}},
    ),
    "openai parameters": Case(
        "openai",
        **HAND,
        call={
            "system": "Knapp, bitte.",
            "temperature": 0.5,
            "max_tokens": 64,
            "stop": ["\n", "🦀"],
            "seed": 7,
            "logit_bias": {"50256": -100},
            "extra_body": {"min_p": 0.1, "template": {"think": False}},
        },
    ),
    "anthropic key": Case("anthropic", **HAND),
    "anthropic path and slash": Case("anthropic", **both(api_key=KEY, base_url="{url}/")),
    "anthropic token": Case("anthropic", **both(auth_token=KEY, base_url="{url}")),
    "anthropic environment": Case(
        "anthropic",
        environment={
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_AUTH_TOKEN": "not-this-one",
            "ANTHROPIC_BASE_URL": "{url}/",
            "ANTHROPIC_CUSTOM_HEADERS": "X-Team: a: b\nnot a header\nX-Other : c",
        },
    ),
    "anthropic token of the environment": Case(
        "anthropic", environment={"ANTHROPIC_AUTH_TOKEN": KEY, "ANTHROPIC_BASE_URL": "{url}"}
    ),
    "anthropic arguments over environment": Case(
        "anthropic",
        **both(api_key=KEY),
        environment={
            "ANTHROPIC_API_KEY": "not-this-one",
            "ANTHROPIC_AUTH_TOKEN": "nor-this-one",
            "ANTHROPIC_BASE_URL": "{url}",
        },
    ),
    "anthropic headers": Case(
        "anthropic",
        provider={**HAND["provider"], "extra_headers": {"Anthropic-Version": "2023-06-01"}},
        sdk={**HAND["sdk"], "default_headers": {"Anthropic-Version": "2023-06-01"}},
        call={"extra_headers": {"anthropic-beta": "one,two"}, "workspace_id": "wrkspc_1"},
    ),
    "anthropic parameters": Case(
        "anthropic",
        **HAND,
        call={
            "system": "Knapp, bitte.",
            "max_tokens": 64,
            "metadata": {"user_id": "u"},
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "low"},
            "user_profile_id": "uprof_1",
            "extra_body": {"temperature": 0.5},
        },
        sdk_call={"stop_sequences": ["\n", "🦀"]},
    ),
}


def filled(values: Mapping[str, Any], url: str) -> dict[str, Any]:
    return {
        name: value.replace("{url}", url) if isinstance(value, str) else value
        for name, value in values.items()
    }


@pytest.mark.parametrize("path", ["lean", "sdk"])
@pytest.mark.parametrize("name", CASES)
async def test_what_is_sent_is_what_the_sdk_sends(
    name: str, path: Any, llm_server: LanguageModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    endpoint = llm_server.endpoint()
    url = endpoint.openai if case.service == "openai" else endpoint.anthropic
    for variable, value in filled(case.environment, url).items():
        monkeypatch.setenv(variable, value)
    provider_class = OpenAIProvider if case.service == "openai" else AnthropicProvider
    own_call = {**case.call, **({"stop": case.sdk_call["stop_sequences"]} if case.sdk_call else {})}
    await ask(provider_class(**filled(case.provider, url), transport=path), PROMPT, **own_call)
    sdk_arguments = {**filled(case.sdk, url), "max_retries": 0}
    if case.service == "openai":
        await ask_openai(openai.AsyncOpenAI(**sdk_arguments), PROMPT, **case.call)
    else:
        client = anthropic.AsyncAnthropic(**sdk_arguments)
        await ask_anthropic(client, PROMPT, **case.call, **(case.sdk_call or {}))
    ours, theirs = endpoint.requests()
    assert ours["method"] == theirs["method"] == "POST"
    assert ours["path"] == theirs["path"]
    assert ours["body"] == theirs["body"]
    assert comparable(ours["headers"]) == comparable(theirs["headers"])


def test_the_api_version_is_the_sdk_s() -> None:
    headers = anthropic.AsyncAnthropic(api_key=KEY).default_headers
    assert HEADERS["anthropic-version"] == headers["anthropic-version"]


# Proxies


@asynccontextmanager
async def recording_proxy() -> AsyncIterator[tuple[str, list[tuple[str, str | None]]]]:
    """A proxy that answers for every server: its URL, and what it was asked.

    What it was asked are pairs of the request's target and its proxy-authorization.
    """
    seen: list[tuple[str, str | None]] = []
    answer = {
        "model": "some-model",
        "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {},
    }
    body = json.dumps(answer).encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
            headers = {line[0].lower(): line[2] for line in lines}
            seen.append((f"{method} {target}", headers.get("proxy-authorization")))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 502 No tunnel\r\ncontent-length: 0\r\n\r\n")
            else:
                await reader.readexactly(int(headers.get("content-length", 0)))
                start = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                writer.write(f"{start}content-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


PROXIES = {
    # name: environment, base URL, target that the proxy is asked for
    "http": ({"HTTP_PROXY": "http://{proxy}"}, "http://api.test", "POST http://api.test"),
    "lower case": ({"http_proxy": "http://{proxy}"}, "http://api.test", "POST http://api.test"),
    "all": ({"ALL_PROXY": "http://{proxy}"}, "http://api.test", "POST http://api.test"),
    "no scheme": ({"HTTP_PROXY": "{proxy}"}, "http://api.test", "POST http://api.test"),
    "port": ({"HTTP_PROXY": "http://{proxy}"}, "http://api.test:81", "POST http://api.test:81"),
    "password": (
        {"HTTP_PROXY": "http://me:p%40ss@{proxy}"},
        "http://api.test",
        "POST http://api.test",
    ),
    "https": ({"HTTPS_PROXY": "http://{proxy}"}, "https://api.test", "CONNECT api.test:443"),
    "https password": (
        {"HTTPS_PROXY": "http://me:p%40ss@{proxy}"},
        "https://api.test",
        "CONNECT api.test:443",
    ),
    "other exception": (
        {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": "other.test"},
        "http://api.test",
        "POST http://api.test",
    ),
}


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("service", ["openai", "anthropic"])
async def test_proxies(service: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, base_url, target = PROXIES[name]
    async with recording_proxy() as (proxy, seen):
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value.replace("{proxy}", proxy))
        await through_both(service, base_url)
    route = "/chat/completions" if service == "openai" else "/v1/messages"
    assert [asked for asked, _ in seen] == [target + (route if "POST" in target else "")] * 2
    assert seen[0] == seen[1]
    assert bool(seen[0][1]) == ("password" in name)


@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "localhost, 127.0.0.1"])
@pytest.mark.parametrize("service", ["openai", "anthropic"])
async def test_exceptions_are_asked_directly(
    service: str,
    exception: str,
    llm_server: LanguageModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = llm_server.endpoint()
    async with recording_proxy() as (proxy, seen):
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy}")
        monkeypatch.setenv("NO_PROXY", exception)
        url = endpoint.openai if service == "openai" else endpoint.anthropic
        await through_both(service, url)
    assert seen == []
    assert endpoint.stats()["requests"] == 2


async def through_both(service: str, base_url: str) -> None:
    """Ask over the lean path, then with the SDK; a tunnel that the proxy refuses is no matter."""
    arguments: dict[str, Any] = {"api_key": KEY, "base_url": base_url}
    if service == "openai":
        lean: Provider = OpenAIProvider(**arguments, transport="lean")
        sdk = ask_openai(openai.AsyncOpenAI(**arguments, max_retries=0))
    else:
        lean = AnthropicProvider(**arguments, transport="lean")
        sdk = ask_anthropic(anthropic.AsyncAnthropic(**arguments, max_retries=0))
    tunnel = base_url.startswith("https")
    for asking in (ask(lean), sdk):
        try:
            await asking
        except (ProviderError, openai.APIConnectionError, anthropic.APIConnectionError):
            assert tunnel


async def test_a_socks_proxy_goes_through_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    for provider_class in (OpenAIProvider, AnthropicProvider):
        with pytest.raises(ValueError, match="SOCKS"):
            provider_class(KEY, base_url="http://api.test", transport="lean")
        with pytest.raises(ProviderError, match="pip install socksio") as caught:
            await ask(provider_class(KEY, base_url="http://api.test"))
        assert (caught.value.kind, caught.value.scope) == ("connection", "run")


# Certificates


@pytest.fixture(scope="module")
def secure_server(certificate: tuple[str, str]) -> Iterator[LanguageModelServer]:
    with language_model("--tls", *certificate) as server:
        yield server


@pytest.mark.parametrize("trusted", ["", "SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("path", ["lean", "sdk"])
@pytest.mark.parametrize("service", ["openai", "anthropic"])
async def test_certificates(
    service: str,
    path: Any,
    trusted: str,
    certificate: tuple[str, str],
    secure_server: LanguageModelServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    if trusted == "SSL_CERT_DIR":
        command = ["openssl", "x509", "-hash", "-noout", "-in", certificate[0]]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        (tmp_path / f"{name}.0").write_bytes(Path(certificate[0]).read_bytes())
        monkeypatch.setenv(trusted, str(tmp_path))
    elif trusted:
        monkeypatch.setenv(trusted, certificate[0])
    provider: Provider
    if service == "openai":
        provider = OpenAIProvider(KEY, base_url=f"{secure_server.url}/v1", transport=path)
    else:
        provider = AnthropicProvider(KEY, base_url=secure_server.url, transport=path)
    if trusted:
        assert (await ask(provider, "Hello")).text.endswith("Hello")
        return
    with pytest.raises(ProviderError, match=r"(?i)certificate") as caught:
        await ask(provider)
    assert (caught.value.kind, caught.value.scope) == ("connection", "later")


# Faults

STALLS = {"stall"}
STATUSES = ["400", "401", "402", "403", "404", "405", "408", "409", "413", "418", "422", "429"]
STATUSES += ["500", "501", "502", "503", "504", "529"]
NAMED = ["badparam", "badvalue", "badrequest", "contexttoolong", "quota", "filter", "echo"]
NAMED += ["ctxvllm", "ctxllama", "modelollama", "noroutejson"]
FAULTS = sorted({*SHAPES, *STATUSES, *NAMED} - STALLS - {"huge"})


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("service", ["openai", "anthropic"])
async def test_both_paths_end_alike(
    service: str, name: str, llm_server: LanguageModelServer
) -> None:
    endpoint = llm_server.endpoint(fault=name, ra=3, think=1)
    lean, sdk = [await outcome(service, endpoint, path) for path in ("lean", "sdk")]
    assert lean == sdk


async def outcome(service: str, endpoint: Any, path: Any) -> Any:
    """A completion without its latency, or an error by all that the engine goes by."""
    provider: Provider
    if service == "openai":
        provider = OpenAIProvider(KEY, base_url=endpoint.openai, transport=path)
    else:
        provider = AnthropicProvider(KEY, base_url=endpoint.anthropic, transport=path)
    try:
        completion = await ask(provider, max_tokens=50)
    except ProviderError as found:
        error = found
    else:
        return replace(completion, latency=0.0)
    assert KEY not in str(error)
    told = str(error) if error.status and error.status >= 400 else ""
    return (error.kind, error.scope, error.status, error.retry_after, error.text, told)
