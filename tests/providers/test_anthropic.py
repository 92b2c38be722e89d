"""Anthropic's provider over a real server: what it sends, what it reads, how it sorts faults."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatan.providers.anthropic import AnthropicProvider
from chatan.providers.anthropic_errors import error_of
from chatan.providers.anthropic_schema import wire_schema
from chatan.providers.anthropic_wire import completion_of, request_body
from chatan.providers.base import AnswerFormat, Completion, ProviderError, Request
from chatan.providers.http import Reply
from servers import LanguageModelServer
from servers.answers import answer_text

KEY = "sk-ant-api03-not-a-real-key"


pytestmark = pytest.mark.usefixtures("bare_environment")


async def ask(
    provider: AnthropicProvider,
    prompt: str = "What is a cell?",
    *,
    system: str | None = None,
    answer: AnswerFormat | None = None,
    model: str = "claude-haiku-5-5",
    **parameters: Any,
) -> Completion:
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    call = provider.prepare(model, parameters, answer)
    try:
        return await provider.complete(Request(call, messages))
    finally:
        await provider.aclose()


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


# What an answer says


async def test_completion(llm_server: LanguageModelServer, transport: Any) -> None:
    provider = AnthropicProvider(KEY, base_url=llm_server.url, transport=transport)
    completion = await ask(provider, "What is a cell?")
    assert completion.text == answer_text("What is a cell?")
    assert completion.finish_reason == "stop"
    assert completion.model == "claude-haiku-5-5"
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


def test_usage_counts_cached_tokens_as_input() -> None:
    message = {
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 2000,
            "output_tokens": 30,
            "output_tokens_details": {"thinking_tokens": 20},
        },
    }
    usage = completion_of(Reply(200, {}, json.dumps(message).encode()), 0.1).usage
    assert usage.input_tokens == 2105
    assert usage.cached_tokens == 2000
    assert (usage.output_tokens, usage.reasoning_tokens) == (30, 20)


def test_thinking_that_used_up_max_tokens_says_so() -> None:
    message = {
        "content": [{"type": "thinking", "thinking": "Hm"}],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 5, "output_tokens": 4096},
    }
    with pytest.raises(ProviderError, match="all of max_tokens went into thinking") as caught:
        completion_of(Reply(200, {}, json.dumps(message).encode()), 0.1)
    assert (caught.value.kind, caught.value.scope) == ("empty", "cell")
    assert caught.value.usage is not None
    assert caught.value.usage.output_tokens == 4096


def test_a_refusal_keeps_what_was_said_and_why() -> None:
    message = {
        "content": [{"type": "text", "text": "Let me"}],
        "stop_reason": "refusal",
        "stop_details": {"type": "refusal", "category": "bio", "explanation": "No\ncultures."},
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    with pytest.raises(ProviderError, match=r"refused to answer \(bio: No cultures\.\)") as caught:
        completion_of(Reply(200, {}, json.dumps(message).encode()), 0.1)
    assert caught.value.text == "Let me"


# What is sent


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
        "model": "claude-haiku-5-5",
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


def test_options_name_the_arguments() -> None:
    import inspect

    parameters = set(inspect.signature(AnthropicProvider).parameters)
    assert AnthropicProvider.options == parameters


def test_turns_of_the_same_role_become_one() -> None:
    body = request_body(
        b'{"model":"m"',
        [
            {"role": "system", "content": "A"},
            {"role": "user", "content": "1"},
            {"role": "user", "content": "2"},
            {"role": "user", "content": "3"},
            {"role": "assistant", "content": "4"},
            {"role": "system", "content": "B"},
            {"role": "user", "content": "5"},
        ],
    )
    texts = [{"type": "text", "text": text} for text in "123"]
    assert json.loads(body) == {
        "model": "m",
        "system": "A\n\nB",
        "messages": [
            {"role": "user", "content": texts},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "5"},
        ],
    }


roles = st.sampled_from(["system", "user", "assistant"])
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.builds(lambda role, text: {"role": role, "content": text}, roles, texts)))
def test_no_text_is_lost_and_turns_alternate(messages: list[dict[str, str]]) -> None:
    body = json.loads(request_body(b'{"model":"m"', messages))
    turns = body["messages"]
    for first, second in pairwise(turns):
        assert first["role"] != second["role"]
    for role in ("user", "assistant"):
        contents = [turn["content"] for turn in turns if turn["role"] == role]
        parts = [[c] if isinstance(c, str) else [b["text"] for b in c] for c in contents]
        assert list(chain(*parts)) == [m["content"] for m in messages if m["role"] == role]
    system = [m["content"] for m in messages if m["role"] == "system"]
    assert body.get("system", "") == "\n\n".join(system)


def test_half_a_character_in_a_prompt_fails_its_cell() -> None:
    with pytest.raises(ProviderError, match="lone surrogate") as caught:
        request_body(b'{"model":"m"', [{"role": "user", "content": "a\ud83d"}])
    assert (caught.value.kind, caught.value.scope) == ("bad_request", "cell")


# Parameters that are refused


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temperature": 0.7}, r"extra_body=\{'temperature': \.\.\.\}"),
        ({"top_p": 0.7}, "has no 'top_p'"),
        ({"top_k": 7}, "'anthropic-version': '2023-06-01'"),
        ({"max_token": 5}, "did you mean 'max_tokens'"),
        ({"max_completion_tokens": 5}, "did you mean 'max_tokens'|extra_body"),
        ({"frobnicate": 5}, r"extra_body=\{'frobnicate': \.\.\.\}"),
        ({"stream": True}, "leave 'stream' out"),
        ({"system": "x"}, "system=..."),
        ({"messages": []}, "come from the prompt"),
        ({"tools": []}, "schema="),
        ({"seed": 1}, "has no 'seed'"),
        ({"stop": "a", "stop_sequences": ["b"]}, "give one of them"),
        ({"stop": [1]}, "a text or a list of texts"),
        ({"extra_body": {"model": "x"}}, "in extra_body: .*model"),
        ({"metadata": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_parameters_that_cannot_be_sent(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AnthropicProvider(KEY).prepare("claude-haiku-5-5", parameters, None)


def test_a_format_is_set_once() -> None:
    answer = AnswerFormat("a", {"type": "object", "properties": {}})
    for parameters in ({"output_config": {"format": {}}}, {"extra_body": {"output_config": {}}}):
        with pytest.raises(ValueError, match="output_config"):
            AnthropicProvider(KEY).prepare("m", parameters, answer)


# Answers' schemas

names = st.sampled_from(["a", "b", "c", "type", "properties"])


def described(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(names, children, max_size=3).map(
        lambda fields: {"type": "object", "properties": fields, "required": sorted(fields)}
    )
    arrays = st.builds(
        lambda items, low: {"type": "array", "items": items, "minItems": low},
        children,
        st.integers(0, 3),
    )
    choices = st.lists(children, min_size=1, max_size=3).flatmap(
        lambda each: st.sampled_from([{"anyOf": each}, {"oneOf": each}, {"allOf": each}])
    )
    return objects | arrays | choices


schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "string", "format": "date", "title": "When"},
            {"type": "string", "format": "byte", "pattern": "^a", "description": "Bytes"},
            {"type": "integer", "minimum": 1, "maximum": 5},
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "boolean"},
            {"type": "null"},
            {"type": "string", "enum": ["a", "b"]},
            {"const": 4},
            {"$ref": "#/$defs/Other", "description": "beside"},
        ]
    ),
    described,
    max_leaves=8,
)


def without_hints(schema: Any) -> Any:
    """A schema without its descriptions, which are for the model alone."""
    if isinstance(schema, list):
        return [without_hints(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: without_hints(each) for key, each in value.items()}
        if name in ("properties", "$defs")
        else without_hints(value)
        for name, value in schema.items()
        if name != "description"
    }


@given(schemas)
def test_schemas_are_what_the_sdk_would_send(schema: dict[str, Any]) -> None:
    schema = {"$defs": {"Other": {"type": "object", "properties": {}}}, **schema}
    wire = wire_schema(schema)
    assert without_hints(wire) == without_hints(anthropic.transform_schema(schema))
    assert anthropic.transform_schema(wire) == wire  # nothing is left for the service to refuse


def test_constraints_are_told_to_the_model() -> None:
    schema = {"type": "array", "items": {"type": ["string", "null"]}, "minItems": 2}
    assert wire_schema({**schema, "description": "Names"}) == {
        "type": "array",
        "items": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "description": 'Names\n\n{"minItems": 2}',
    }


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object"}, "schema.a takes an object of any fields"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "name its fields"),
        ({}, "schema.a takes any value"),
        ({"type": "array", "items": {}}, r"schema.a\[\] takes any value"),
        ({"anyOf": [{"type": "null"}, {}]}, r"schema.a.anyOf\[1\] takes any value"),
    ],
)
def test_schemas_that_the_service_cannot_take(schema: dict[str, Any], words: str) -> None:
    answer = AnswerFormat("x", {"type": "object", "properties": {"a": schema}})
    with pytest.raises(ValueError, match=words):
        AnthropicProvider(KEY).prepare("m", {}, answer)


# Faults


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
    assert "claude-haiku-5-5" in str(await fault(llm_server, transport, "404"))
    assert "before /v1/messages" in str(await fault(llm_server, transport, "noroute"))


@pytest.mark.parametrize("name", ["badparam", "badvalue", "422"])
async def test_a_parameter_of_ours_ends_the_run(
    llm_server: LanguageModelServer, transport: Any, name: str
) -> None:
    error = await fault(llm_server, transport, name, thinking={"type": "adaptive"})
    assert (error.kind, error.scope) == ("bad_parameter", "run")
    assert "thinking" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind", "scope"),
    [
        (
            400,
            {"message": "input length and `max_tokens` exceed context limit: 178959 + 64000"},
            "too_long",
            "cell",
        ),
        (400, {"message": "max_tokens: 4096 > 2048, which is the maximum"}, "bad_parameter", "run"),
        (400, {"message": "`max_tokens` is odd"}, "bad_parameter", "run"),
        (400, {"message": "messages.1.content: `max_tokens` is no text"}, "bad_request", "cell"),
        (400, {"message": "model: Field required"}, "unknown_model", "run"),
        (400, {"message": "You have reached your specified API usage limits."}, "quota", "run"),
        (
            400,
            {"message": "On hold", "details": {"error_code": "organization_on_hold"}},
            "permission",
            "run",
        ),
        (
            429,
            {
                "type": "rate_limit_error",
                "message": "Stop",
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
            "quota",
            "run",
        ),
        (
            429,
            {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}},
            "rate_limit",
            "later",
        ),
        (200, {"type": "overloaded_error", "message": "Overloaded"}, "server", "later"),
        (407, {"message": "Proxy Authentication Required"}, "authentication", "run"),
        (405, {"message": "Method Not Allowed"}, "bad_url", "run"),
        (307, {}, "bad_url", "run"),
        (418, {"message": "teapot"}, "bad_request", "cell"),
    ],
)
def test_errors_by_their_words(status: int, body: Any, kind: str, scope: str) -> None:
    reply = Reply(status, {}, json.dumps({"type": "error", "error": body}).encode())
    error = error_of(reply, url="http://x", model="m-1", sent={"max_tokens", "model"}, secrets=[])
    assert (error.kind, error.scope) == (kind, scope)


fields = ["error", "type", "message", "details", "content", "text", "thinking", "usage"]
fields += ["stop_reason", "stop_details", "category", "explanation", "output_tokens", "model"]
values = st.recursive(
    st.none() | st.text() | st.integers() | st.sampled_from(["text", "refusal", "max_tokens"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(fields), inner),
)
messages = st.fixed_dictionaries(
    {
        "content": values
        | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": values}))
    },
    optional={"stop_reason": values, "stop_details": values, "usage": values, "model": values},
)


@given(
    st.integers(200, 599),
    st.binary() | (values | messages).map(lambda value: json.dumps(value).encode()),
)
def test_whatever_is_answered_is_read_or_sorted(status: int, body: bytes) -> None:
    reply = Reply(status, {}, body)
    error = error_of(reply, url="http://x", model="m-1", sent=["max_tokens"], secrets=[KEY])
    assert error.scope in ("later", "cell", "run")
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    try:
        completion = completion_of(reply, 0.0)
    except ProviderError as other:
        assert "\n" not in str(other)  # noqa: PT017 - either of the two
    else:
        assert completion.text.strip()


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


async def test_no_server_is_no_connection(transport: Any, free_port: int) -> None:
    provider = AnthropicProvider(KEY, base_url=f"http://127.0.0.1:{free_port}", transport=transport)
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    assert (caught.value.kind, caught.value.scope) == ("connection", "later")
    assert str(free_port) in str(caught.value)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


# Keys and addresses


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


# Weight


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
print(packages(light) & {{"aiohttp", "anthropic", "openai", "httpx2", "pydantic", "orjson"}})
print(packages(sys.modules) & {{"anthropic", "openai", "httpx2", "pydantic"}})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["set()", "set()"]
