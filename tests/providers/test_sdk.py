"""Sending through clients of the user's: Azure, clouds, own HTTP clients, other event loops."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from chatan.providers.anthropic import AnthropicProvider
from chatan.providers.base import Provider, ProviderError
from chatan.providers.http import Timeouts
from chatan.providers.openai import OpenAIProvider
from chatan.providers.sdk import AnthropicSDK
from providers.asking import KEY, ask, ask_anthropic, ask_openai, comparable
from servers import LanguageModelServer

pytestmark = pytest.mark.usefixtures("bare_environment", "few_certificates")


async def test_azure_builds_its_own_url(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint()
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=endpoint.url, api_key=KEY, api_version="2026-01-01"
    )
    provider = OpenAIProvider(client=client, extra_headers={"X-Team": "a"})
    await ask(provider)
    await ask_openai(client, extra_headers={"X-Team": "a"})
    ours, theirs = endpoint.requests()
    assert ours["path"] == theirs["path"]
    assert ours["path"].endswith("/deployments/some-model/chat/completions?api-version=2026-01-01")
    assert ours["headers"]["api-key"] == KEY
    assert comparable(ours["headers"]) == comparable(theirs["headers"])
    assert ours["body"] == theirs["body"]


async def test_azure_s_key_is_not_shown(llm_server: LanguageModelServer) -> None:
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=llm_server.endpoint(fault="echo").url,
        azure_ad_token_provider=lambda: "ad-token-0123456789",
        api_version="2026-01-01",
    )
    with pytest.raises(ProviderError, match=r"\*\*\*") as caught:
        await ask(OpenAIProvider(client=client))
    assert caught.value.kind == "authentication"
    assert "ad-token" not in str(caught.value)


async def test_clouds_are_asked_as_their_clients_do(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint()
    clients = [
        anthropic.AsyncAnthropicBedrock(api_key=KEY, aws_region="eu-1", base_url=endpoint.url),
        anthropic.AsyncAnthropicVertex(
            access_token=KEY, project_id="project", region="eu-1", base_url=endpoint.url
        ),
    ]
    for client in clients:
        with pytest.raises(ProviderError) as caught:  # the server speaks neither language
            await ask(AnthropicProvider(client=client), max_tokens=9)
        assert (caught.value.kind, caught.value.scope) == ("bad_url", "run")
        with pytest.raises(anthropic.NotFoundError):
            await ask_anthropic(client, max_tokens=9)
    requests = endpoint.requests()
    for ours, theirs in zip(requests[::2], requests[1::2], strict=True):
        assert ours["path"] == theirs["path"]
        assert ours["body"] == theirs["body"]
        assert comparable(ours["headers"]) == comparable(theirs["headers"])
    assert requests[0]["path"].endswith("/model/some-model/invoke")
    assert requests[2]["path"].endswith("/models/some-model:rawPredict")


async def test_what_a_client_cannot_do_is_one_line(llm_server: LanguageModelServer) -> None:
    async def no_token() -> str:
        raise LookupError("not\nlogged in")

    client = openai.AsyncAzureOpenAI(
        azure_endpoint=llm_server.url, azure_ad_token_provider=no_token, api_version="1"
    )
    with pytest.raises(ProviderError, match=r"LookupError: not logged in") as caught:
        await ask(OpenAIProvider(client=client))
    assert (caught.value.kind, caught.value.scope) == ("authentication", "run")
    closed = anthropic.AsyncAnthropic(api_key=KEY)
    await closed.close()
    with pytest.raises(ProviderError, match="closed: give an open one") as caught:
        await ask(AnthropicProvider(client=closed))
    assert caught.value.scope == "run"


def clients(url: str, http_client: Any = None) -> list[tuple[Any, Callable[..., Provider]]]:
    """Both SDKs' clients, and how a provider is made of one."""
    more = {"api_key": KEY, "http_client": http_client}
    return [
        (openai.AsyncOpenAI(base_url=f"{url}/v1", **more), OpenAIProvider),
        (anthropic.AsyncAnthropic(base_url=url, **more), AnthropicProvider),
    ]


@pytest.mark.parametrize(
    "own", [None, httpx2.AsyncClient, openai.DefaultAioHttpClient, anthropic.DefaultAioHttpClient]
)
def test_a_client_works_on_two_loops(llm_server: LanguageModelServer, own: Any) -> None:
    """Its loop still runs, in a notebook say, when the provider uses it on another one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def there(asking: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(asking, loop).result(20)

    async def use(client: Any) -> None:
        if isinstance(client, openai.AsyncOpenAI):
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "1"}]
            )
        else:
            await client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "1"}]
            )

    http_client = own(headers={"X-Mine": "1"}) if own else None
    endpoint = llm_server.endpoint(lat=50)  # so long that the loop sleeps until the answer
    try:
        for client, make in clients(endpoint.url, http_client):
            there(use(client))
            provider = make(client=client)
            for _ in range(2):  # a loop each, the first of them closed
                answer = asyncio.run(asyncio.wait_for(ask(provider, "Hello"), 20))
                assert answer.text.endswith("Hello")
            there(use(client))  # what was opened here was not closed there
            if not own:
                there(client.close())
        if http_client is not None:
            there(http_client.aclose())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    mine = [request["headers"].get("x-mine") for request in endpoint.requests()]
    assert mine == ["1" if own else None] * 8


@pytest.mark.parametrize("service", ["openai", "anthropic"])
async def test_an_own_http_client_is_used(service: str, llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint()
    seen: list[str] = []

    async def note(request: httpx2.Request) -> None:
        seen.append(str(request.url))

    async with httpx2.AsyncClient(event_hooks={"request": [note]}) as http_client:
        make, url = OpenAIProvider, endpoint.openai
        if service == "anthropic":
            make, url = AnthropicProvider, endpoint.anthropic  # type: ignore[assignment]
        await ask(make(KEY, base_url=url, http_client=http_client))
        await ask(make(KEY, base_url=url, http_client=http_client))
        assert not http_client.is_closed
    assert len(seen) == 2
    assert all(each.startswith(endpoint.url) for each in seen)


async def test_concurrent_calls_share_one_client(llm_server: LanguageModelServer) -> None:
    transport = AnthropicSDK(timeouts=Timeouts(total=20.0))
    url = f"{llm_server.endpoint(lat=20).url}/v1/messages"
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"%d"}]}'
    replies = await asyncio.gather(
        *(transport.post(url, {"authorization": "Bearer k"}, body % n) for n in range(20))
    )
    await transport.aclose()
    for n, reply in enumerate(replies):
        assert json.loads(reply.body)["content"][0]["text"].endswith(f"| {n}")
