"""What every provider shares: requests, completions, usage, and the kinds of error."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NoReturn

Scope = Literal["later", "cell", "run"]
"""Whom an error concerns: this attempt, this cell, or every call of the run."""

ErrorKind = Literal[
    # later: another attempt may well succeed
    "rate_limit",
    "timeout",
    "connection",
    "server",
    "broken_answer",
    # cell: this prompt will not do, others may
    "refused",
    "too_long",
    "empty",
    "invalid_answer",
    "bad_request",
    "length",
    # run: no call of this kind can succeed
    "authentication",
    "permission",
    "quota",
    "unknown_model",
    "bad_parameter",
    "bad_url",
]

Message = dict[str, str]
"""One message of a conversation: its ``role`` and its ``content``."""


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The JSON schema that an answer must fit; its root is always an object."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What all requests of one prompt column share; made by ``Provider.prepare``.

    ``parameters`` holds only what the user set. ``body`` is for the provider that made the
    call: whatever it can work out once instead of for every request.
    """

    model: str
    parameters: Mapping[str, Any] = field(repr=False)  # headers among them may hold keys
    answer: AnswerFormat | None = None
    body: Any = field(default=None, repr=False)


@dataclass(slots=True)
class Request:
    """One question to a model.

    ``draw`` (63 bits) names which draw of this prompt is asked: a model that runs on this
    machine seeds its sampling with it, so that the same dataset gives the same text.
    """

    call: Call
    messages: Sequence[Message]
    draw: int = 0


@dataclass(slots=True)
class Usage:
    """Tokens of one or more completions; cached and reasoning tokens are parts of the others."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, other: Usage) -> None:
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
        self.reasoning_tokens += other.reasoning_tokens


@dataclass(slots=True)
class Completion:
    """One answer of a model.

    ``latency`` is in seconds. ``finish_reason`` is ``"stop"``, ``"length"`` or the service's
    own word. ``model`` is the model as the service named it. ``replaced`` says that the text
    held characters no encoding can store (lone surrogates), now U+FFFD.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    latency: float = 0.0
    finish_reason: str = "stop"
    model: str = ""
    reasoning: str | None = None
    replaced: bool = False


class ProviderError(Exception):
    """A call that failed, sorted: ``kind`` says what it is, ``scope`` whom it concerns.

    ``retry_after`` is in seconds where the service gave one. ``text`` is what the model said,
    where it said something; ``usage`` what that cost. Messages never hold a key.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        scope: Scope,
        status: int | None = None,
        retry_after: float | None = None,
        text: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.scope: Scope = scope
        self.status = status
        self.retry_after = retry_after
        self.text = text
        self.usage = usage

    def __reduce__(self) -> tuple[Any, ...]:
        sorted_as = {
            name: getattr(self, name)
            for name in ("kind", "scope", "status", "retry_after", "text", "usage")
        }
        return functools.partial(type(self), **sorted_as), self.args


class Provider(ABC):
    """The code that talks to one kind of model, for one server and one key.

    Made by ``chatan.generator``; used from one event loop at a time (the portal's). A provider
    opens its connections at the first call, never when it is made.
    """

    kind: ClassVar[str]
    """``"openai"``, ``"anthropic"``, ``"transformers"`` or ``"local"``."""

    default_model: str
    """The model that is asked where the user names none."""

    base_url: str = ""
    """The server, normalised (no trailing slash); empty for a model in this process."""

    identity: str = ""
    """A digest of server and credentials: providers with the same share one lane."""

    capacity: tuple[int, int] = (16, 256)
    """Requests in flight that ``concurrency="auto"`` starts with, and the most it climbs to."""

    @abstractmethod
    def prepare(
        self, model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
    ) -> Call:
        """Check the parameters and make what all requests of a column share.

        Raises ``ValueError`` naming the parameter, and what to write instead, where the
        service is known not to take it.
        """

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Ask once, without retries. Raises ``ProviderError`` and nothing else."""

    def model_identity(self, model: str) -> str:
        """What tells this model from others: its name, or for files what is in them.

        May read whole files, so it is not for the event loop.
        """
        return model

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider holds a key and connections: it is not copied, make it anew")

    async def aclose(self) -> None:  # noqa: B027 - nothing to close is the common case
        """Close what is open. The next call opens it again."""


def redact(text: str, *secrets: str | None) -> str:
    """``text`` without the secrets.

    >>> redact("Incorrect API key provided: sk-abcdef123456", "sk-abcdef123456")
    'Incorrect API key provided: ***'
    """
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, "***")
    return text
