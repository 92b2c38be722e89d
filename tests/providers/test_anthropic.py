"""Anthropic's provider over a real server: what it sends and reads, how it sorts faults."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from chatan.providers.anthropic import AnthropicProvider
from chatan.providers.base import AnswerFormat, ProviderError
from providers.asking import KEY, ask
from servers import LanguageModelServer
from servers.answers import answer_text

pytestmark = pytest.mark.usefixtures("bare_environment")


async def fault(
    server: LanguageModelServer, transport: Any, name: str, **parameters: Any
) -> ProviderError:
    provider = AnthropicProvider(
        KEY, base_url=server.endpoint(fault=name, ra="7").anthropic, transport=transport
    )
    with pytest.raises(ProviderError) as caught:
        await ask(provider, **parameters)
    error = caught.value
    assert KEY not in str(error)
    assert "\n" not in str(error)
    return error


async def test_completion(llm_server: LanguageModelServer, transport: Any) -> None:
    provider = AnthropicProvider(KEY, base_url=llm_server.url, transport=transport)
    completion = await ask(provider, "What is a cell?")
    assert completion.text == answer_text("What is a cell?")
    assert completion.finish_reason == "stop"
    assert completion.model == "some-model"
    assert completion.usage.input_tokens > 0
    assert completion.usage.output_tokens == 100
    assert completion.latency > 0
    assert completion.reasoning is None
    assert not completion.replaced


async def test_thinking_is_kept_beside_the_answer(
    llm_server: LanguageModelServer, transport: Any
) -> None:
    provider = AnthropicProvider(KEY, base_url=llm_server.url, transport=transport)
    completion = await ask(provider, thinking={"type": "adaptive"})
    assert completion.reasoning == "First I read it."
    assert completion.text == answer_text("What is a cell?")


async def test_answer_format(llm_server: LanguageModelServer, transport: Any) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 9},
            "age": {"type": "integer", "minimum": 0},
        },
        "required": ["name", "age"],
    }
    endpoint = llm_server.endpoint()
    provider = AnthropicProvider(KEY, base_url=endpoint.anthropic, transport=transport)
    answer = AnswerFormat("person", schema)
    completion = await ask(provider, answer=answer, output_config={"effort": "low"})
    assert set(json.loads(completion.text)) == {"name", "age"}
    (sent,) = endpoint.requests()
    assert sent["body"]["output_config"]["effort"] == "low"
    form = sent["body"]["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"]["additionalProperties"] is False
    assert form["schema"]["properties"]["name"] == {
        "type": "string",
        "description": '{"maxLength": 9}',
    }


async def test_length_is_a_completion(llm_server: LanguageModelServer, transport: Any) -> None:
    endpoint = llm_server.endpoint(fault="length")
    provider = AnthropicProvider(KEY, base_url=endpoint.anthropic, transport=transport)
    completion = await ask(provider)
    assert completion.finish_reason == "length"


@pytest.mark.parametrize(("name", "length"), [("huge", 10_000_000), ("nul", 401)])
async def test_odd_text_is_whole(
    llm_server: LanguageModelServer, transport: Any, name: str, length: int
) -> None:
    endpoint = llm_server.endpoint(fault=name)
    provider = AnthropicProvider(KEY, base_url=endpoint.anthropic, transport=transport)
    completion = await ask(provider)
    assert len(completion.text) == length
    assert ("\x00" in completion.text) == (name == "nul")
    assert not completion.replaced


async def test_half_characters_are_replaced_and_flagged(
    llm_server: LanguageModelServer, transport: Any
) -> None:
    endpoint = llm_server.endpoint(fault="surrogate")
    provider = AnthropicProvider(KEY, base_url=endpoint.anthropic, transport=transport)
    completion = await ask(provider)
    assert completion.replaced
    assert "\N{REPLACEMENT CHARACTER}" in completion.text
    completion.text.encode()


async def test_request(llm_server: LanguageModelServer, transport: Any) -> None:
    endpoint = llm_server.endpoint()
    provider = AnthropicProvider(
        KEY,
        base_url=f" {endpoint.anthropic}/ ",
        extra_headers={"Anthropic-Beta": "one", "X-Team": "a"},
        transport=transport,
    )
    await ask(
        provider,
        "Größe? 🦀",
        system="Be terse.",
        stop="END",
        max_tokens=7,
        workspace_id="wrkspc_1",
        extra_body={"temperature": 0.5},
        extra_headers={"x-team": "b"},
    )
    (sent,) = endpoint.requests()
    assert sent["method"] == "POST"
    assert sent["path"] == f"{endpoint.url.removeprefix(llm_server.url)}/v1/messages"
    assert sent["body"] == {
        "model": "some-model",
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "system": "Be terse.",
        "messages": [{"role": "user", "content": "Größe? 🦀"}],
    }
    headers = sent["headers"]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["anthropic-version"] == "2026-10-21"
    assert headers["anthropic-beta"] == "one"
    assert headers["anthropic-workspace-id"] == "wrkspc_1"
    assert headers["x-team"] == "b"


async def test_max_tokens_is_4096_by_default(llm_server: LanguageModelServer) -> None:
    endpoint = llm_server.endpoint()
    await ask(AnthropicProvider(KEY, base_url=endpoint.anthropic), stop=["a", "b"])
    (sent,) = endpoint.requests()
    assert sent["body"]["max_tokens"] == 4096
    assert sent["body"]["stop_sequences"] == ["a", "b"]
    assert "system" not in sent["body"]


@pytest.mark.parametrize(
    ("name", "kind", "scope", "status"),
    [
        ("401", "authentication", "run", 401),
        ("echo", "authentication", "run", 401),
        ("402", "quota", "run", 402),
        ("403", "permission", "run", 403),
        ("404", "unknown_model", "run", 404),
        ("noroute", "bad_url", "run", 404),
        ("quota", "quota", "run", 400),
        ("408", "timeout", "later", 408),
        ("409", "server", "later", 409),
        ("429", "rate_limit", "later", 429),
        ("500", "server", "later", 500),
        ("502", "server", "later", 502),
        ("503", "server", "later", 503),
        ("504", "timeout", "later", 504),
        ("529", "server", "later", 529),
        ("contexttoolong", "too_long", "cell", 400),
        ("413", "too_long", "cell", 413),
        ("badrequest", "bad_request", "cell", 400),
        ("filter", "refused", "cell", 400),
        ("reset", "connection", "later", None),
        ("truncate", "broken_answer", "later", None),
        ("badjson", "broken_answer", "later", None),
        ("html", "broken_answer", "later", None),
        ("nonutf8", "broken_answer", "later", None),
        ("wrongtype", "broken_answer", "later", 200),
        ("emptychoices", "empty", "cell", None),
        ("null_content", "empty", "cell", None),
        ("refusal", "refused", "cell", None),
        ("contextexceeded", "too_long", "cell", None),
    ],
)
async def test_faults(
    llm_server: LanguageModelServer,
    transport: Any,
    name: str,
    kind: str,
    scope: str,
    status: int | None,
) -> None:
    error = await fault(llm_server, transport, name)
    assert (error.kind, error.scope, error.status) == (kind, scope, status), str(error)
    waits = scope == "later" and status is not None and status >= 400
    assert error.retry_after == (7.0 if waits else None)


async def test_faults_name_the_way_out(llm_server: LanguageModelServer, transport: Any) -> None:
    assert "pass api_key=" in str(await fault(llm_server, transport, "401"))
    assert "***" in str(await fault(llm_server, transport, "echo"))
    assert "some-model" in str(await fault(llm_server, transport, "404"))
    assert "before /v1/messages" in str(await fault(llm_server, transport, "noroute"))


@pytest.mark.parametrize("name", ["badparam", "badvalue", "422"])
async def test_a_parameter_of_ours_ends_the_run(
    llm_server: LanguageModelServer, transport: Any, name: str
) -> None:
    error = await fault(llm_server, transport, name, thinking={"type": "adaptive"})
    assert (error.kind, error.scope) == ("bad_parameter", "run")
    assert "thinking" in str(error)


async def test_an_error_without_a_key_says_that_none_was_sent(
    llm_server: LanguageModelServer, transport: Any
) -> None:
    endpoint = llm_server.endpoint(fault="401")
    with pytest.raises(ProviderError, match="no key was sent"):
        await ask(AnthropicProvider(base_url=endpoint.anthropic, transport=transport))


async def test_a_stalled_server_is_a_timeout(
    llm_server: LanguageModelServer, transport: Any
) -> None:
    endpoint = llm_server.endpoint(fault="stall")
    provider = AnthropicProvider(KEY, base_url=endpoint.anthropic, timeout=0.2, transport=transport)
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    assert (caught.value.kind, caught.value.scope) == ("timeout", "later")


async def test_no_server_is_no_connection(transport: Any) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        free_port = bound.getsockname()[1]
    provider = AnthropicProvider(KEY, base_url=f"http://127.0.0.1:{free_port}", transport=transport)
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    assert (caught.value.kind, caught.value.scope) == ("connection", "later")
    assert str(free_port) in str(caught.value)
