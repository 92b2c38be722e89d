"""The test server itself: what other tests rest on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatan.providers.base import ProviderError
from chatan.providers.http import Transport
from servers import Endpoint, LanguageModelServer
from servers.answers import answer_text, fitting
from servers.options import Options, Scope

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "maxLength": 8},
        "age": {"type": "integer", "minimum": 18, "maximum": 20},
        "score": {"type": "number"},
        "kind": {"$ref": "#/$defs/Kind"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 3},
        "ok": {"type": "boolean"},
        "more": {"anyOf": [{"const": "yes"}, {"type": "null"}]},
    },
    "required": ["name", "age", "score", "kind", "tags", "ok", "more"],
    "additionalProperties": False,
    "$defs": {"Kind": {"enum": ["cat", "dog"]}},
}


async def statuses(endpoint: Endpoint, count: int) -> list[object]:
    """What becomes of ``count`` prompts, each asked twice."""
    transport = Transport()

    async def ask(number: int) -> object:
        body = json.dumps({"messages": [{"role": "user", "content": f"Prompt {number}"}]})
        try:
            reply = await transport.post(f"{endpoint.openai}/chat/completions", {}, body.encode())
        except ProviderError as error:
            return error.kind
        return reply.status if reply.status != 200 else len(reply.body)

    found = [
        result
        for _ in range(2)
        for result in await asyncio.gather(*(ask(number) for number in range(count)))
    ]
    await transport.aclose()
    return found


async def test_a_run_fails_in_the_same_places_again(llm_server: LanguageModelServer) -> None:
    faults = {"e429": 10, "e500": 10, "etrunc": 5, "ebad": 5}
    first, again = llm_server.endpoint(**faults), llm_server.endpoint(**faults)
    found = await statuses(first, 200)
    assert found == await statuses(again, 200)
    other = await statuses(llm_server.endpoint(**faults, seed=1), 200)
    assert found != other
    assert found[:200] != found[200:], "another attempt is another draw"
    counts = first.stats()
    assert counts["requests"] == 400
    assert 20 <= counts["429"] <= 60
    assert 20 <= counts["500"] <= 60
    assert 5 <= counts["truncated"] <= 40


async def test_a_fault_the_first_times_of_each_prompt(llm_server: LanguageModelServer) -> None:
    found = await statuses(llm_server.endpoint(fault=503, times=1), 3)
    assert found[:3] == [503, 503, 503]
    assert 503 not in found[3:]


async def test_endpoints_count_apart(llm_server: LanguageModelServer) -> None:
    one, other = llm_server.endpoint(), llm_server.endpoint()
    await statuses(one, 2)
    assert (len(one.requests()), len(other.requests())) == (4, 0)
    assert one.requests()[0]["body"] == {"messages": [{"role": "user", "content": "Prompt 0"}]}
    one.reset()
    assert (one.requests(), one.stats()["requests"]) == ([], 0)


@given(st.integers(0, 2**32))
def test_values_fit_their_schema(number: int) -> None:
    jsonschema_rs.validate(SCHEMA, fitting(SCHEMA, number))


def test_the_text_names_its_prompt() -> None:
    text = answer_text("What is a cell?", 60)
    assert text == "h=d4348eb2 the quick brown fox jumps over  | What is a cell?"
    assert answer_text("a") != answer_text("b")


def test_latencies_follow_their_distribution() -> None:
    scope = Scope(Options.read("lat=200,dist=ln,p99=3000"), 0)
    drawn = sorted(scope.draw_latency(f"Prompt {number}") for number in range(5000))
    assert drawn[2500] == pytest.approx(0.2, rel=0.1)
    assert drawn[4950] == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize("prefix", ["latency=3", "fault=none", "lat=soon"])
def test_options_that_there_are_not(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"none|latency|soon"):
        Options.read(prefix)
