"""What the services answer: completions in their shapes, and JSON that fits a schema."""

from __future__ import annotations

import json
import zlib
from typing import Any

REPLACED = "\ud83d"  # half a character: no encoding can store it
HUGE = 10_000_000  # characters
WORDS = "the quick brown fox jumps over the lazy dog and "


def answer_text(prompt: str, length: int = 400) -> str:
    """The text that the server answers to ``prompt``: a hash of it, and its end.

    >>> answer_text("What is a cell?", 60)
    'h=d4348eb2 the quick brown fox jumps over  | What is a cell?'
    """
    start = f"h={zlib.crc32(prompt.encode('utf-8', 'surrogatepass')):08x} "
    end = f" | {prompt[-80:]}"
    room = max(0, length - len(start) - len(end))
    return start + (WORDS * (room // len(WORDS) + 1))[:room] + end


def prompt_of(messages: list[dict[str, Any]]) -> str:
    """The text of the last message, which is what the answer is about."""
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def schema_of(body: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that the request asks its answer to fit."""
    wanted = body.get("response_format") or (body.get("output_config") or {}).get("format") or {}
    if wanted.get("type") != "json_schema":
        return None
    return wanted["json_schema"]["schema"] if "json_schema" in wanted else wanted["schema"]


def fitting(schema: dict[str, Any], number: int, root: dict[str, Any] | None = None) -> Any:
    """A value that fits ``schema``, chosen by ``number``."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return fitting(target, number, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return fitting(schema[key][number % len(schema[key])], number, root)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[number % len(kind)]
    if kind == "object":
        fields = schema.get("properties", {})
        return {
            name: fitting(field, zlib.crc32(f"{name}{number}".encode()), root)
            for name, field in fields.items()
        }
    if kind == "array":
        count = max(schema.get("minItems", 0), min(2, schema.get("maxItems", 2)))
        return [fitting(schema.get("items", {}), number + i, root) for i in range(count)]
    if kind in ("integer", "number"):
        low = schema.get("minimum", 0)
        high = schema.get("maximum", low + 99)
        return low + number % (int(high - low) + 1)
    simple = {"boolean": number % 2 == 0, "null": None}
    if kind in simple:
        return simple[kind]
    text = f"text {number}".ljust(schema.get("minLength", 0), ".")
    return text[: schema.get("maxLength", len(text))]


def text_for(body: dict[str, Any], prompt: str, length: int, fault: str | None) -> str:
    """The text of a completion, as the request and the fault want it."""
    schema = schema_of(body)
    if fault == "misfit":
        return '{"unexpected": 1}'
    if schema is not None:
        return json.dumps(fitting(schema, zlib.crc32(prompt.encode())))
    text = answer_text(prompt, HUGE if fault == "huge" else length)
    if fault == "nul":
        return f"{text[:10]}\x00{text[10:]}"
    if fault == "surrogate":
        return f"{text[:10]}{REPLACED}{text[10:]}"
    return text


def openai_completion(
    body: dict[str, Any], text: str, fault: str | None, number: int, thoughts: bool
) -> dict[str, Any]:
    """A chat completion in OpenAI's shape."""
    spent = sum(len(str(message["content"])) for message in body["messages"]) // 4 + 8
    reasoned = 64 if thoughts or "reasoning_effort" in body else 0
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if thoughts:
        message["reasoning_content"] = "First I read the question."
    finish = {"length": "length", "filtered": "content_filter"}.get(fault or "", "stop")
    if fault == "refusal":
        message |= {"content": None, "refusal": "I'm sorry, I can't help with that."}
    elif fault == "null_content":
        message["content"] = None
    elif fault == "parts":
        message["content"] = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Reading."}]},
            {"type": "text", "text": text},
        ]
    choice: Any = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    if fault == "wrongtype":
        choice = {"index": 0, "message": text}
    return {
        "id": f"chatcmpl-{number:012d}",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": f"{body['model']}-2025-04-14",
        "choices": [] if fault == "emptychoices" else [choice],
        "usage": {
            "prompt_tokens": spent,
            "completion_tokens": len(text) // 4 + reasoned,
            "total_tokens": spent + len(text) // 4 + reasoned,
            "prompt_tokens_details": {
                "cached_tokens": spent // 128 * 128 if spent >= 1024 else 0,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {"reasoning_tokens": reasoned, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def anthropic_message(
    body: dict[str, Any], text: str, fault: str | None, number: int, thoughts: bool
) -> dict[str, Any]:
    """A message in Anthropic's shape."""
    asked = [*body["messages"], {"content": body.get("system", "")}]
    spent = sum(len(str(message["content"])) for message in asked) // 4 + 8
    cached = spent // 128 * 128 if spent >= 1024 else 0
    content: Any = [{"type": "text", "text": text, "citations": None}]
    if thoughts or "thinking" in body:
        thought = {"type": "thinking", "thinking": "First I read it.", "signature": "c2lnbmVk"}
        content.insert(0, thought)
    stop = {
        "length": "max_tokens",
        "refusal": "refusal",
        "filtered": "refusal",
        "contextexceeded": "model_context_window_exceeded",
    }.get(fault or "", "end_turn")
    if fault in ("emptychoices", "refusal"):
        content = []
    elif fault == "null_content":
        content = None
    elif fault == "wrongtype":
        content = {"text": text}
    return {
        "id": f"msg_{number:012d}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": spent - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": len(text) // 4,
            "service_tier": "standard",
        },
    }
