"""The OpenAI provider: what it sends, what it reads, and how every failure is sorted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatan.providers.base import (
    AnswerFormat,
    Completion,
    Message,
    ProviderError,
    Request,
    Usage,
)
from chatan.providers.http import Reply
from chatan.providers.openai import OpenAIProvider
from chatan.providers.openai_errors import error_of
from chatan.providers.openai_schema import response_format
from chatan.providers.openai_wire import completion_of
from servers import Endpoint, LanguageModelServer
from servers.answers import HUGE, answer_text

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz"
PROMPT = "What is a cell?"
MODEL = "gpt-4.1-mini"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "BASE_URL", "CUSTOM_HEADERS", "ADMIN_KEY"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)


async def ask(
    provider: OpenAIProvider,
    parameters: Mapping[str, Any] | None = None,
    *,
    messages: Sequence[Message] = ({"role": "user", "content": PROMPT},),
    answer: AnswerFormat | None = None,
) -> Completion:
    call = provider.prepare(MODEL, parameters or {}, answer)
    try:
        return await provider.complete(Request(call, messages))
    finally:
        await provider.aclose()


async def failure(provider: OpenAIProvider, **parameters: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider, parameters)
    assert "\n" not in str(caught.value)
    return caught.value


def provider(endpoint: Endpoint, transport: str, **options: Any) -> OpenAIProvider:
    return OpenAIProvider(KEY, base_url=endpoint.openai, transport=transport, **options)


# What is read


async def test_a_completion(llm_server: LanguageModelServer, transport: str) -> None:
    completion = await ask(provider(llm_server.endpoint(lat=20), transport))
    assert completion.text == answer_text(PROMPT)
    assert completion.usage == Usage(input_tokens=11, output_tokens=100)
    assert completion.latency >= 0.02
    assert completion.finish_reason == "stop"
    assert completion.model == "gpt-4.1-mini-2025-04-14"
    assert completion.reasoning is None
    assert not completion.replaced


async def test_cached_and_reasoning_tokens(llm_server: LanguageModelServer, transport: str) -> None:
    messages = [{"role": "user", "content": "long " * 2000}]
    asked = provider(llm_server.endpoint(), transport)
    completion = await ask(asked, {"reasoning_effort": "low"}, messages=messages)
    usage = completion.usage
    assert usage.cached_tokens == 2432
    assert usage.reasoning_tokens == 64
    assert usage.input_tokens > usage.cached_tokens


async def test_reasoning_is_kept_beside_the_answer(
    llm_server: LanguageModelServer, transport: str
) -> None:
    completion = await ask(provider(llm_server.endpoint(think=1), transport))
    assert completion.text == answer_text(PROMPT)
    assert completion.reasoning == "First I read the question."
    parts = await ask(provider(llm_server.endpoint(fault="parts"), transport))
    assert (parts.text, parts.reasoning) == (answer_text(PROMPT), "Reading.")


@pytest.mark.parametrize(
    ("fault", "text", "finish_reason", "replaced"),
    [
        ("length", answer_text(PROMPT), "length", False),
        ("huge", answer_text(PROMPT, HUGE), "stop", False),
        ("nul", f"{answer_text(PROMPT)[:10]}\x00{answer_text(PROMPT)[10:]}", "stop", False),
        ("surrogate", f"{answer_text(PROMPT)[:10]}�{answer_text(PROMPT)[10:]}", "stop", True),
    ],
)
async def test_odd_answers_are_whole(
    llm_server: LanguageModelServer,
    transport: str,
    fault: str,
    text: str,
    finish_reason: str,
    replaced: bool,
) -> None:
    completion = await ask(provider(llm_server.endpoint(fault=fault), transport))
    assert completion.text == text
    assert (completion.finish_reason, completion.replaced) == (finish_reason, replaced)


FAULTS = {
    # fault: kind, scope, status, a word of what to do
    "401": ("authentication", "run", 401, "api_key"),
    "402": ("quota", "run", 402, "billing"),
    "403": ("permission", "run", 403, "key"),
    "404": ("unknown_model", "run", 404, MODEL),
    "modelollama": ("unknown_model", "run", 404, MODEL),
    "quota": ("quota", "run", 429, "billing"),
    "badparam": ("bad_parameter", "run", 400, "temperature"),
    "badvalue": ("bad_parameter", "run", 400, "temperature"),
    "422": ("bad_parameter", "run", 422, "temperature"),
    "noroute": ("bad_url", "run", 404, "/v1"),
    "noroutejson": ("bad_url", "run", 404, "/v1"),
    "307": ("bad_url", "run", 307, "base_url"),
    "contexttoolong": ("too_long", "cell", 400, "shorten"),
    "ctxvllm": ("too_long", "cell", 400, "shorten"),
    "ctxllama": ("too_long", "cell", 400, "shorten"),
    "413": ("too_long", "cell", 413, "shorten"),
    "filter": ("refused", "cell", 400, "filtered"),
    "filtered": ("refused", "cell", None, "filter"),
    "refusal": ("refused", "cell", None, "I can't help"),
    "emptychoices": ("empty", "cell", None, "no choices"),
    "null_content": ("empty", "cell", None, "stop"),
    "badrequest": ("bad_request", "cell", 400, "content"),
    "408": ("timeout", "later", 408, "408"),
    "409": ("server", "later", 409, "409"),
    "429": ("rate_limit", "later", 429, "Limit 500"),
    "500": ("server", "later", 500, "500"),
    "503": ("server", "later", 503, "503"),
    "504": ("timeout", "later", 504, "504"),
    "529": ("server", "later", 529, "529"),
    "gateway": ("server", "later", 502, "Provider returned error"),
    "badjson": ("broken_answer", "later", None, "JSON"),
    "html": ("broken_answer", "later", None, "html"),
    "nonutf8": ("broken_answer", "later", None, "utf-8"),
    "wrongtype": ("broken_answer", "later", 200, "completion"),
    "reset": ("connection", "later", None, ""),
    "truncate": ("broken_answer", "later", None, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_sorted(
    llm_server: LanguageModelServer, transport: str, fault: str
) -> None:
    asked = provider(llm_server.endpoint(fault=fault), transport)
    error = await failure(asked, temperature=9)
    *sorted_as, word = FAULTS[fault]
    assert [error.kind, error.scope, error.status] == sorted_as
    assert word in str(error)
    assert len(str(error)) < 600


async def test_what_a_failed_answer_said_and_cost(
    llm_server: LanguageModelServer, transport: str
) -> None:
    refused = await failure(provider(llm_server.endpoint(fault="refusal"), transport))
    assert refused.text == "I'm sorry, I can't help with that."
    empty = await failure(provider(llm_server.endpoint(fault="null_content"), transport))
    assert empty.usage == Usage(input_tokens=11, output_tokens=100)


async def test_retry_after(llm_server: LanguageModelServer, transport: str) -> None:
    for fault in ("429", "503"):
        error = await failure(provider(llm_server.endpoint(fault=fault, ra=7), transport))
        assert error.retry_after == 7.0
    bucket = llm_server.endpoint(rps=0.5, burst=1)
    await ask(provider(bucket, transport))
    error = await failure(provider(bucket, transport))
    assert error.kind == "rate_limit"
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 2


async def test_a_server_that_stalls(llm_server: LanguageModelServer, transport: str) -> None:
    asked = provider(llm_server.endpoint(fault="stall"), transport, timeout=0.2)
    error = await failure(asked)
    assert (error.kind, error.scope) == ("timeout", "later")


async def test_a_server_that_is_not_there(transport: str) -> None:
    asked = OpenAIProvider(KEY, base_url="http://127.0.0.1:9/v1", transport=transport)
    error = await failure(asked)
    assert (error.kind, error.scope) == ("connection", "later")


# Keys


@pytest.mark.parametrize("fault", ["401", "echo"])
async def test_a_key_is_never_shown(
    llm_server: LanguageModelServer, transport: str, fault: str
) -> None:
    asked = provider(llm_server.endpoint(fault=fault), transport)
    error = await failure(asked)
    for part in (KEY, KEY[:6], KEY[-4:]):
        assert part not in str(error)
    for shown in (repr(asked), str(vars(error)), asked.identity):
        assert KEY not in shown


@pytest.mark.parametrize(
    "words",
    [
        f"Incorrect API key provided: {KEY[:5]}***{KEY[-2:]}.",
        f"Incorrect API key provided: {KEY[:8]}*********************{KEY[-4:]}.",
        f"the key {KEY[:6]}...{KEY[-4:]} is wrong",
        f"the key {KEY[:6]}…{KEY[-4:]} is wrong",
        f"Bearer {KEY}",
        f'{{"headers": {{"authorization": "Bearer {KEY}"}}}}',
    ],
)
def test_a_key_is_never_shown_however_it_is_shortened(words: str) -> None:
    for body in (words, json.dumps({"error": {"message": words, "code": words}})):
        reply = Reply(400, {}, body.encode())
        url = "http://localhost/v1/chat/completions"
        error = error_of(reply, url=url, model=MODEL, sent=["model"], secrets=[KEY, ""])
        assert KEY[:5] not in str(error)
        assert KEY[-4:] not in str(error)


async def test_a_missing_key_matters_when_a_call_is_sent(transport: str) -> None:
    asked = OpenAIProvider(transport=transport)
    call = asked.prepare(MODEL, {"temperature": 1}, None)
    with pytest.raises(ProviderError, match=r"api_key=.*OPENAI_API_KEY") as caught:
        await asked.complete(Request(call, [{"role": "user", "content": PROMPT}]))
    assert (caught.value.kind, caught.value.scope) == ("authentication", "run")


async def test_the_key_of_the_environment_goes_to_its_service_alone(
    llm_server: LanguageModelServer, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: s3cret")
    by_hand = llm_server.endpoint()
    await ask(OpenAIProvider(base_url=by_hand.openai, transport=transport))
    (request,) = by_hand.requests()
    sent = request["headers"].keys()
    assert not sent & {"authorization", "openai-organization", "openai-project", "x-secret"}
    named = llm_server.endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{named.openai}/")
    await ask(OpenAIProvider(transport=transport))
    (request,) = named.requests()
    sent = request["headers"]
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["openai-organization"] == "org-1"
    assert sent["openai-project"] == "proj-1"
    assert sent["x-secret"] == "s3cret"
    for host in ("api.openai.com", "eu.api.openai.com"):
        assert OpenAIProvider(base_url=f"https://{host}/v1")._headers["Authorization"]
    assert "Authorization" not in OpenAIProvider(base_url="https://api.openai.com.evil/v1")._headers


async def test_no_key_was_sent(llm_server: LanguageModelServer, transport: str) -> None:
    asked = OpenAIProvider(base_url=llm_server.endpoint(fault="401").openai, transport=transport)
    assert "no key was sent" in str(await failure(asked))


@pytest.mark.parametrize("key", [f" {KEY}\n", f"{KEY}"])
async def test_a_pasted_key_is_trimmed(
    llm_server: LanguageModelServer, transport: str, key: str
) -> None:
    endpoint = llm_server.endpoint()
    await ask(OpenAIProvider(key, base_url=endpoint.openai, transport=transport))
    assert endpoint.requests()[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_key_that_no_header_can_hold() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        OpenAIProvider("sk-“quoted”")
    assert "quoted" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": KEY},
        {"base_url": "http://localhost/v1"},
        {"project": "p"},
        {"transport": "lean"},
    ],
)
def test_a_client_keeps_its_own_settings(options: dict[str, Any]) -> None:
    from openai import AsyncOpenAI

    with pytest.raises(ValueError, match="client="):
        OpenAIProvider(client=AsyncOpenAI(api_key=KEY), **options)


def test_one_lane_for_one_server_and_key() -> None:
    here = OpenAIProvider(KEY, base_url="http://localhost:8000/v1")
    assert here.identity == OpenAIProvider(KEY, base_url="http://localhost:8000/v1/").identity
    assert here.identity != OpenAIProvider("sk-2", base_url="http://localhost:8000/v1").identity
    assert here.identity != OpenAIProvider(KEY, base_url="http://localhost:8001/v1").identity


# What is sent


async def test_headers_and_path(llm_server: LanguageModelServer, transport: str) -> None:
    endpoint = llm_server.endpoint()
    asked = provider(
        endpoint, transport, organization="o", project="p", extra_headers={"x-team": "a"}
    )
    await ask(asked, {"extra_headers": {"X-Team": "b", "X-Call": "c"}})
    (request,) = endpoint.requests()
    assert request["method"] == "POST"
    assert request["path"].endswith("/v1/chat/completions")
    expected = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept": "application/json",
        "openai-organization": "o",
        "openai-project": "p",
        "x-team": "b",
        "x-call": "c",
    }
    assert expected.items() <= request["headers"].items()


async def test_only_what_was_set_is_sent(llm_server: LanguageModelServer, transport: str) -> None:
    endpoint = llm_server.endpoint()
    messages = [{"role": "system", "content": "Bärig."}, {"role": "user", "content": "🌍 {x}"}]
    await ask(provider(endpoint, transport), messages=messages)
    await ask(
        provider(endpoint, transport),
        {
            "temperature": 0.5,
            "max_tokens": 7,
            "stop": ["a", "b"],
            "extra_body": {"top_k": 5, "temperature": 1},
        },
    )
    plain, full = [request["body"] for request in endpoint.requests()]
    assert plain == {"model": MODEL, "messages": messages}
    assert full == {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 1,
        "max_tokens": 7,
        "stop": ["a", "b"],
        "top_k": 5,
    }


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (None, "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://x.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:8000/v1", "max_tokens"),
        ("https://api.openai.com.evil.example/v1", "max_tokens"),
    ],
)
def test_the_name_of_the_token_limit(base_url: str | None, name: str) -> None:
    call = OpenAIProvider(KEY, base_url=base_url).prepare(MODEL, {"max_tokens": 7}, None)
    assert json.loads(call.body.start + b"}") == {"model": MODEL, name: 7}
    assert call.parameters == {"max_tokens": 7}


@pytest.mark.parametrize(
    ("parameters", "hint"),
    [
        ({"n": 2}, "more rows"),
        ({"stream": True}, "whole answers"),
        ({"messages": []}, "messages="),
        ({"model": "x"}, r"generator\(\.\.\., model="),
        ({"response_format": {"type": "json_object"}}, "schema="),
        ({"tools": []}, "schema="),
        ({"timeout": 3}, r"generator\(\.\.\., timeout="),
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"max_token": 1}, "did you mean 'max_tokens'"),
        ({"top_k": 1}, r"extra_body=\{'top_k': \.\.\.\}"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "one of them"),
        ({"extra_body": {"stream": True}}, "whole answers"),
        ({"stop": 3}, "stop is a text"),
        ({"seed": object()}, "JSON"),
        ({"extra_headers": {"X": "a\nb"}}, "header"),
    ],
)
def test_parameters_that_cannot_be_sent(parameters: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        OpenAIProvider(KEY).prepare(MODEL, parameters, None)


async def test_half_a_character_in_a_prompt_is_this_cells_fault(transport: str) -> None:
    asked = OpenAIProvider(KEY, base_url="http://127.0.0.1:9/v1", transport=transport)
    with pytest.raises(ProviderError, match="lone surrogate") as caught:
        await ask(asked, messages=[{"role": "user", "content": "a\ud83d"}])
    assert (caught.value.kind, caught.value.scope) == ("bad_request", "cell")


@pytest.mark.parametrize(
    ("base_url", "hint"),
    [
        ("localhost:8000/v1", "http"),
        ("ftp://localhost/v1", "http"),
        ("http://", "http"),
        ("http://localhost:8000/v1/chat/completions", "'http://localhost:8000/v1'"),
        ("http://me:hunter2@localhost/v1", "Authorization"),
    ],
)
def test_base_urls_that_are_none(base_url: str, hint: str) -> None:
    with pytest.raises(ProviderError, match=hint) as caught:
        OpenAIProvider(KEY, base_url=base_url)
    assert (caught.value.kind, caught.value.scope) == ("bad_url", "run")
    assert "hunter2" not in str(caught.value)


async def test_a_base_url_without_its_v1(llm_server: LanguageModelServer, transport: str) -> None:
    asked = OpenAIProvider(KEY, base_url=llm_server.endpoint().url, transport=transport)
    error = await failure(asked)
    assert (error.kind, error.scope) == ("bad_url", "run")
    assert "/v1" in str(error)


# Structured answers

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}, "maxItems": 3},
        "mood": {"enum": ["good", "bad"]},
        "boss": {"anyOf": [{"$ref": "#"}, {"type": "null"}], "default": None},
    },
    "required": ["name"],
    "$defs": {
        "Pet": {
            "type": "object",
            "properties": {"kind": {"$ref": "#/$defs/Kind", "description": "what it is"}},
        },
        "Kind": {"type": "string", "enum": ["cat", "dog"]},
    },
}


async def test_an_answer_that_fits_its_schema(
    llm_server: LanguageModelServer, transport: str
) -> None:
    endpoint = llm_server.endpoint()
    schema = {**PERSON, "properties": dict(PERSON["properties"])}  # type: ignore[call-overload]
    del schema["properties"]["boss"]
    completion = await ask(provider(endpoint, transport), answer=AnswerFormat("person", schema))
    person = json.loads(completion.text)
    assert person.keys() == schema["properties"].keys()
    assert person["mood"] in ("good", "bad")
    wanted = endpoint.requests()[0]["body"]["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["name"] == "person"
    assert wanted["json_schema"]["strict"] is True


def test_a_schema_is_made_strict_all_the_way_down() -> None:
    given = json.dumps(PERSON)
    made = response_format("person", PERSON)["json_schema"]
    assert json.dumps(PERSON) == given, "the user's own schema is left alone"
    assert made["strict"] is True
    sent = made["schema"]
    assert sent["additionalProperties"] is False
    assert sent["required"] == ["name", "age", "pets", "mood", "boss"]
    assert "default" not in sent["properties"]["boss"]
    assert sent["properties"]["name"] == {"type": "string", "description": '{"maxLength": 30}'}
    pet = sent["$defs"]["Pet"]
    assert (pet["additionalProperties"], pet["required"]) == (False, ["kind"])
    kind = {"type": "string", "enum": ["cat", "dog"], "description": "what it is"}
    assert pet["properties"]["kind"] == kind


@pytest.mark.parametrize(
    "field",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"allOf": [{"type": "string"}, {"minLength": 2}]},
        {"$ref": "#/$defs/Nowhere", "description": "x"},
        {},
        True,
    ],
)
def test_a_schema_that_cannot_be_strict_is_sent_as_it_is(field: Any) -> None:
    schema = {"type": "object", "properties": {"a": field}, "required": ["a"]}
    made = response_format("x", schema)["json_schema"]
    assert (made["strict"], made["schema"]) == (False, schema)


def test_strict_schemas_are_what_the_sdk_makes_of_pydantic_models() -> None:
    from openai.lib._pydantic import to_strict_json_schema
    from pydantic import BaseModel

    class Address(BaseModel):
        street: str
        number: int | None = None

    class Person(BaseModel):
        name: str
        home: Address
        others: list[Address]
        boss: Person | None = None

    made = response_format("person", Person.model_json_schema())["json_schema"]
    assert made == {"name": "person", "strict": True, "schema": to_strict_json_schema(Person)}


# Whatever comes


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "message", "content", "usage", "refusal", "finish_reason"),
                    *("type", "text", "thinking", "error", "model", "prompt_tokens", "detail"),
                    *("prompt_tokens_details", "reasoning", "code", "param", "loc"),
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from(["", "choices", "message", "usage"]))
@example({"prompt_tokens": math.inf}, "usage")
@example({"prompt_tokens_details": [1]}, "usage")
def test_any_json_is_a_completion_or_a_sorted_error(value: Any, within: str) -> None:
    wrapped = {
        "": value,
        "choices": {"choices": value},
        "message": {"choices": [{"message": value}]},
        "usage": {"choices": [{"message": {"content": "x"}}], "usage": value},
    }[within]
    try:
        completion = completion_of(Reply(200, {}, json.dumps(wrapped).encode()), 0.0)
    except ProviderError:
        return
    assert completion.text.strip()
    total = Usage()
    total.add(completion.usage)


@given(ANYTHING, st.integers(200, 599), st.booleans())
@example([{"loc": None}], 422, False)
@example({"detail": [{"loc": 3, "msg": []}]}, 422, False)
def test_any_error_body_is_sorted(value: Any, status: int, wrapped: bool) -> None:
    body = json.dumps({"error": value} if wrapped else value).encode()
    url = "http://localhost/v1/chat/completions"
    error = error_of(Reply(status, {}, body), url=url, model=MODEL, sent=["stop"], secrets=[KEY])
    assert len(str(error)) < 600
    assert "\n" not in str(error)


def test_the_lean_path_imports_no_sdk(llm_server: LanguageModelServer) -> None:
    code = f"""
import asyncio, sys
from chatan.providers.base import Request
from chatan.providers.openai import OpenAIProvider
async def main():
    provider = OpenAIProvider("sk-1", base_url={llm_server.endpoint().openai!r})
    call = provider.prepare("m", {{"temperature": 1}}, None)
    completion = await provider.complete(Request(call, [{{"role": "user", "content": "x"}}]))
    await provider.aclose()
    return completion.text
assert asyncio.run(main()).endswith("x")
heavy = "openai", "anthropic", "httpx", "httpx2", "pydantic"
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
