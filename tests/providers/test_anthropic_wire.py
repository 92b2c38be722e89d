"""Anthropic's messages, schemas and errors as data, without a server."""

from __future__ import annotations

import json
from itertools import chain, pairwise
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatan.providers.anthropic import AnthropicProvider
from chatan.providers.anthropic_errors import error_of
from chatan.providers.anthropic_schema import wire_schema
from chatan.providers.anthropic_wire import completion_of, request_body
from chatan.providers.base import AnswerFormat, ProviderError
from chatan.providers.http import Reply
from providers.asking import KEY

pytestmark = pytest.mark.usefixtures("bare_environment")


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
