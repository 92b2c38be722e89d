"""Anthropic's Messages API on the wire: parameters in, request bodies out, answers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chatan.providers.anthropic_schema import wire_schema
from chatan.providers.base import AnswerFormat, Completion, Message, ProviderError, Usage
from chatan.providers.body import whole_body
from chatan.providers.http import Reply, decode_json
from chatan.providers.settings import one_line, unknown_parameter

MAX_TOKENS = 4096
"""Tokens of an answer where the user sets no ``max_tokens``: the service wants a number."""

_PARAMETERS = {
    *("cache_control", "inference_geo", "max_tokens", "metadata", "output_config"),
    *("service_tier", "speed", "stop_sequences", "thinking"),
}
_HEADER_PARAMETERS = {
    "workspace_id": "anthropic-workspace-id",
    "user_profile_id": "anthropic-user-profile-id",
}
_SAMPLING = (
    "Anthropic's API has no {name!r} since version 2026-10-21; for models that still take it "
    "write extra_body={{{name!r}: ...}}, extra_headers={{'anthropic-version': '2023-06-01'}}"
)
_TEXT_ONLY = "a cell holds the text of an answer: leave {name!r} out, or write schema=..."
_REFUSED = {
    "temperature": _SAMPLING,
    "top_p": _SAMPLING,
    "top_k": _SAMPLING,
    "model": "{name!r} is no parameter of a prompt: write generator(..., model=...)",
    "messages": "{name!r} come from the prompt: write gen(..., messages=[...])",
    "system": "{name!r} comes from the prompt: write gen(..., system=...)",
    "stream": "whole answers are asked for: leave {name!r} out",
    "timeout": "{name!r} is an option of the generator: write generator(..., timeout=seconds)",
    "tools": _TEXT_ONLY,
    "tool_choice": _TEXT_ONLY,
    "n": "each row asks once: leave {name!r} out",
    "seed": "Anthropic's API has no {name!r}: leave it out",
}
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


def shared_fields(
    model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields and headers that all requests of a column share.

    Raises ``ValueError`` for a parameter that the service does not take, and says what to
    write instead.
    """
    fields: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS}
    headers: dict[str, str] = {}
    for name, value in parameters.items():
        if name in _REFUSED:
            raise ValueError(_REFUSED[name].format(name=name))
        if name in _HEADER_PARAMETERS:
            headers[_HEADER_PARAMETERS[name]] = value
        elif name in _PARAMETERS:
            fields[name] = value
        elif name == "stop":
            fields["stop_sequences"] = _stop(value)
        elif name not in ("extra_body", "extra_headers"):
            known = _PARAMETERS | _HEADER_PARAMETERS.keys() | {"stop", *_REFUSED}
            raise unknown_parameter(name, known)
    if "stop" in parameters and "stop_sequences" in parameters:
        raise ValueError("stop and stop_sequences are the same: give one of them")
    extra = dict(parameters.get("extra_body") or {})
    for name in ("model", "messages", "system", "stream"):
        if name in extra:
            raise ValueError(f"in extra_body: {_REFUSED[name].format(name=name)}")
    if answer is not None:
        if "output_config" in extra:
            raise ValueError("schema=... sets output_config: write it as a parameter of its own")
        fields["output_config"] = _with_format(fields.get("output_config"), answer)
    return {**fields, **extra}, {**headers, **(parameters.get("extra_headers") or {})}


def _stop(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"stop is a text or a list of texts, not {value!r}")
    return list(texts)


def _with_format(config: Any, answer: AnswerFormat) -> dict[str, Any]:
    config = dict(config or {})
    if "format" in config:
        raise ValueError("schema=... sets output_config['format']: leave one of them out")
    return {**config, "format": {"type": "json_schema", "schema": wire_schema(answer.schema)}}


def request_body(start: bytes, messages: Sequence[Message]) -> bytes:
    """The JSON of one request; ``start`` is what ``body_start`` makes of the shared fields.

    System messages become the ``system`` field, and turns of the same role one turn, as the
    service would make of them.
    """
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if turns and turns[-1]["role"] == message["role"]:
            before = turns[-1]["content"]
            blocks = [_block(before)] if isinstance(before, str) else before
            turns[-1]["content"] = [*blocks, _block(message["content"])]
        else:
            turns.append({"role": message["role"], "content": message["content"]})
    fields: dict[str, Any] = {"system": system} if system else {}
    return whole_body(start, {**fields, "messages": turns})


def _block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def is_error(reply: Reply) -> bool:
    """Whether the reply is an error: by its status, or as a gateway may put it into a 200."""
    return reply.status != 200 or reply.body.startswith(b'{"type":"error"')


def completion_of(reply: Reply, latency: float) -> Completion:
    """The completion that a message of the service holds.

    Raises ``ProviderError``: "broken_answer" (later) for what is no message; for this cell
    "refused", "too_long" and "empty", with what was said and what it cost.
    """
    value, replaced = decode_json(reply.body)
    try:
        blocks = value["content"] or []
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking"]
        text, reasoning = "".join(texts), "\n\n".join(thoughts)
        reason = str(value.get("stop_reason") or "end_turn")
        details = value.get("stop_details") or {}
        why = [str(part) for part in (details.get("category"), details.get("explanation")) if part]
        usage = _usage(value.get("usage") or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProviderError(
            f"the answer is no message of Anthropic's: {one_line(str(value))}",
            kind="broken_answer",
            scope="later",
            status=200,
        ) from None
    if reason == "refusal":
        because = f" ({one_line(': '.join(why))})" if why else ""
        message = f"the model refused to answer{because}"
        raise ProviderError(message, kind="refused", scope="cell", text=text or None, usage=usage)
    if reason == "model_context_window_exceeded":
        message = "the prompt and its answer do not fit the model's context: shorten the prompt"
        raise ProviderError(message, kind="too_long", scope="cell", text=text or None, usage=usage)
    if not text.strip():
        thinking = "all of max_tokens went into thinking; raise it"
        spent = thinking if reason == "max_tokens" and thoughts else f"stop_reason {reason}"
        message = f"the model gave an empty answer ({spent})"
        raise ProviderError(message, kind="empty", scope="cell", text=text or None, usage=usage)
    return Completion(
        text=text,
        usage=usage,
        latency=latency,
        finish_reason=_FINISH.get(reason, reason),
        model=str(value.get("model") or ""),
        reasoning=reasoning or None,
        replaced=replaced,
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    def count(name: str, counts: Mapping[str, Any] = usage) -> int:
        return int(counts.get(name) or 0)

    cached, written = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
    return Usage(
        input_tokens=count("input_tokens") + cached + written,
        output_tokens=count("output_tokens"),
        cached_tokens=cached,
        reasoning_tokens=count("thinking_tokens", usage.get("output_tokens_details") or {}),
    )
