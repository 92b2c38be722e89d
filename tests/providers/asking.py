"""Asking a provider one question, and an SDK the same; and comparing what they sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatan.providers.base import AnswerFormat, Completion, Provider, Request

KEY = "sk-test-0123456789abcdef"


async def ask(
    provider: Provider,
    prompt: str = "What is a cell?",
    *,
    system: str | None = None,
    answer: AnswerFormat | None = None,
    **parameters: Any,
) -> Completion:
    """One completion of ``some-model``; the provider is closed afterwards."""
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    call = provider.prepare("some-model", parameters, answer)
    try:
        return await provider.complete(Request(call, messages))
    finally:
        await provider.aclose()


async def ask_openai(
    client: Any, prompt: str = "What is a cell?", system: str | None = None, **more: Any
) -> None:
    """The same question in OpenAI's SDK."""
    messages: list[Any] = [{"role": "user", "content": prompt}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    async with client:
        await client.chat.completions.create(model="some-model", messages=messages, **more)


async def ask_anthropic(
    client: Any, prompt: str = "What is a cell?", system: str | None = None, **more: Any
) -> None:
    """The same question in Anthropic's SDK."""
    more.setdefault("max_tokens", 4096)
    if system:
        more["system"] = system
    messages: list[Any] = [{"role": "user", "content": prompt}]
    async with client:
        await client.messages.create(model="some-model", messages=messages, **more)


DIFFERENT = {
    "user-agent": "each client says who it is",
    "accept-encoding": "each names what it can decode",
    "connection": "httpx spells out what HTTP/1.1 means anyway",
    "content-length": "the same JSON may be written in more or fewer bytes",
}
"""Headers that may differ, and why; so may ``x-stainless-*``, by which the SDKs count users."""


def comparable(headers: Mapping[str, str]) -> dict[str, str]:
    """What must be the same of the headers of two requests."""
    return {
        name: value
        for name, value in headers.items()
        if name not in DIFFERENT and not name.startswith("x-stainless-")
    }
