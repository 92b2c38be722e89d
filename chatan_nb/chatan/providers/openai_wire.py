"""OpenAI's Chat Completions on the wire: parameters in, request bodies out, answers read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chatan.providers.base import AnswerFormat, Completion, Message, ProviderError, Usage
from chatan.providers.body import whole_body
from chatan.providers.http import Reply, decode_json
from chatan.providers.openai_schema import response_format
from chatan.providers.settings import one_line, unknown_parameter

PARAMETERS = frozenset(
    (
        *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens"),
        *("metadata", "moderation", "prediction", "presence_penalty", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention", "reasoning_effort"),
        *("safety_identifier", "seed", "service_tier", "stop", "store", "temperature"),
        *("top_logprobs", "top_p", "user", "verbosity", "web_search_options"),
    )
)
"""What the service takes, and what makes sense where an answer is the text of a cell."""

_TEXT_ONLY = "a cell holds the text of an answer: leave {name!r} out, or write schema=..."
_REFUSED = {
    "messages": "{name!r} come from the prompt: write gen(..., messages=[...])",
    "model": "{name!r} is no parameter of a prompt: write generator(..., model=...)",
    "n": "each row asks once: leave {name!r} out, and make more rows",
    "stream": "whole answers are asked for: leave {name!r} out",
    "stream_options": "whole answers are asked for: leave {name!r} out",
    "response_format": "write gen(..., schema=...) instead of {name!r}",
    "timeout": "{name!r} is an option of the generator: write generator(..., timeout=seconds)",
    "tools": _TEXT_ONLY,
    "tool_choice": _TEXT_ONLY,
    "parallel_tool_calls": _TEXT_ONLY,
    "functions": _TEXT_ONLY,
    "function_call": _TEXT_ONLY,
    "audio": _TEXT_ONLY,
    "modalities": _TEXT_ONLY,
}
_OURS = ("messages", "model", "n", "stream")
_FINISH = {None: "stop", "eos": "stop", "max_tokens": "length"}


def shared_fields(
    model: str,
    parameters: Mapping[str, Any],
    answer: AnswerFormat | None,
    *,
    known: Collection[str] = PARAMETERS,
    limit_name: str = "max_tokens",
) -> dict[str, Any]:
    """The fields of the body that all requests of a column share.

    ``known`` are the parameters that the server takes, ``limit_name`` is what it calls
    ``max_tokens``. Raises ``ValueError`` for a parameter that cannot be sent, and says what
    to write instead.
    """
    fields: dict[str, Any] = {"model": model}
    for name, value in parameters.items():
        if name in _REFUSED:
            raise ValueError(_REFUSED[name].format(name=name))
        if name == "stop":
            fields[name] = _stop(value)
        elif name in known:
            fields[limit_name if name == "max_tokens" else name] = value
        elif name not in ("extra_body", "extra_headers"):
            raise unknown_parameter(name, [*known, *_REFUSED])
    if "max_tokens" in parameters and "max_completion_tokens" in parameters:
        raise ValueError("max_tokens and max_completion_tokens are the same: give one of them")
    if answer is not None:
        fields["response_format"] = response_format(answer.name, answer.schema)
    extra = dict(parameters.get("extra_body") or {})
    for name in (*_OURS, *(["response_format"] if answer else [])):
        if name in extra:
            raise ValueError(f"in extra_body: {_REFUSED[name].format(name=name)}")
    return {**fields, **extra}


def _stop(value: Any) -> Any:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"stop is a text or a list of texts, not {value!r}")
    return value


def request_body(start: bytes, messages: Sequence[Message]) -> bytes:
    """The JSON of one request; ``start`` is what ``body_start`` makes of the shared fields."""
    return whole_body(start, {"messages": messages})


def is_error(reply: Reply) -> bool:
    """Whether the reply is an error: by its status, or as gateways put it into a 200."""
    return reply.status != 200 or reply.body.startswith(b'{"error"')


def completion_of(reply: Reply, latency: float) -> Completion:
    """The completion that a reply of the service holds.

    Raises ``ProviderError``: "broken_answer" (later) for what is no completion; for this cell
    "refused" and "empty", with what was said and what it cost.
    """
    value, replaced = decode_json(reply.body)
    try:
        usage = _usage(value.get("usage"))
        choices = value["choices"]
        choice = choices[0] if choices else {"message": {}}
        message = choice["message"]
        text, thoughts = _content(message.get("content"))
        refusal = message.get("refusal")
        reasoning = message.get("reasoning_content") or message.get("reasoning") or thoughts
        said = choice.get("finish_reason")
        finish = str(_FINISH.get(said, said))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProviderError(
            f"the answer is no chat completion: {one_line(str(value))}",
            kind="broken_answer",
            scope="later",
            status=200,
        ) from None
    if refusal:
        message = f"the model refused to answer: {one_line(str(refusal))}"
        raise ProviderError(message, kind="refused", scope="cell", text=str(refusal), usage=usage)
    if finish == "content_filter":
        message = "the service's content filter withheld the answer"
        raise ProviderError(message, kind="refused", scope="cell", text=text or None, usage=usage)
    if not text.strip():
        raise ProviderError(
            f"the model gave an empty answer{_why_empty(choices, finish, usage)}",
            kind="empty",
            scope="cell",
            text=text or None,
            usage=usage,
        )
    return Completion(
        text=text,
        usage=usage,
        latency=latency,
        finish_reason=finish,
        model=str(value.get("model") or ""),
        reasoning=reasoning if isinstance(reasoning, str) and reasoning else None,
        replaced=replaced,
    )


def _content(content: Any) -> tuple[str, str]:
    """Text and reasoning of a message's content: a text, nothing, or a list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    text = "".join(part["text"] for part in content if part["type"] == "text")
    thoughts = [part["thinking"] for part in content if part["type"] == "thinking"]
    return text, "".join(each if isinstance(each, str) else _content(each)[0] for each in thoughts)


def _why_empty(choices: Any, finish: str, usage: Usage) -> str:
    if not choices:
        return " (no choices)"
    if finish == "length" and usage.reasoning_tokens:
        return ": all of its tokens went into reasoning; raise max_tokens"
    return f" (finish_reason {finish})"


def _usage(usage: Any) -> Usage:
    usage = usage if isinstance(usage, dict) else {}
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, name: str) -> int:
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if isinstance(count, int) else 0
