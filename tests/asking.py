"""Asking a provider from a test, many prompts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from chatan.providers.base import AnswerFormat, Completion, Provider, ProviderError, Request

DRAWS = range(1_000_000_000_000, 1_000_000_000_100)


async def ask(
    provider: Provider,
    prompts: Sequence[str],
    *,
    draws: Sequence[int] = DRAWS,
    answer: AnswerFormat | None = None,
    **parameters: Any,
) -> list[Any]:
    """What comes of each prompt, all asked at once: completions and errors."""
    call = provider.prepare(provider.default_model, {"max_tokens": 12, **parameters}, answer)
    try:
        return await asyncio.gather(
            *(
                provider.complete(Request(call, [{"role": "user", "content": prompt}], draw))
                for prompt, draw in zip(prompts, draws, strict=False)
            ),
            return_exceptions=True,
        )
    finally:
        await provider.aclose()


async def error_of(provider: Provider, prompt: str = "Hi", **parameters: Any) -> ProviderError:
    """The error, of one line, that comes of a prompt."""
    (error,) = await ask(provider, [prompt], **parameters)
    assert isinstance(error, ProviderError), error
    assert "\n" not in str(error)
    return error


def texts(answers: Sequence[Completion]) -> list[str]:
    return [answer.text for answer in answers]


def form(**properties: Any) -> AnswerFormat:
    """An object with exactly these properties."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return AnswerFormat("form", {**schema, "required": list(properties)})


PERSON = form(
    name={"type": "string", "maxLength": 12},
    age={"type": "integer", "minimum": 1, "maximum": 99},
    likes={"enum": ["tea", "coffee"]},
)
