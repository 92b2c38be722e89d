"""OpenAI's service, and servers that speak its language: whom to ask, with which credentials."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from chatan.providers.base import AnswerFormat, Call, Completion, Provider, ProviderError, Request
from chatan.providers.body import Shared, body_start
from chatan.providers.http import Transport, checked_headers
from chatan.providers.openai_errors import error_of
from chatan.providers.openai_wire import (
    PARAMETERS,
    completion_of,
    is_error,
    request_body,
    shared_fields,
)
from chatan.providers.sdk import CREDENTIALS, OpenAISDK, needs_sdk
from chatan.providers.settings import (
    checked_base_url,
    checked_timeouts,
    digest,
    environment_headers,
    merged_headers,
    secret_values,
)

SERVICE_URL = "https://api.openai.com/v1"
ROUTE = "/chat/completions"
HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}

_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


class OpenAIProvider(Provider):
    """Models of OpenAI's Chat Completions API, and of any server that speaks it.

    vLLM, Ollama, llama.cpp, LM Studio and many services do: give their ``base_url``. The
    default model is ``gpt-4.1-mini``.

    Parameters
    ----------
    api_key
        A key, or a function, sync or async, that gives the key of the next call. By default
        OPENAI_API_KEY; that is sent to OpenAI and to OPENAI_BASE_URL, never to a ``base_url``
        given here. A key is needed when a call must be sent to OpenAI; other servers are asked
        without one.
    base_url
        What stands before ``/chat/completions``; it usually ends in ``/v1``. By default
        OPENAI_BASE_URL, or else ``https://api.openai.com/v1``.
    organization, project
        Whose usage a call counts as; by default OPENAI_ORG_ID and OPENAI_PROJECT_ID, which go
        where the environment's key goes.
    extra_headers
        Sent with every call, over those of OPENAI_CUSTOM_HEADERS.
    timeout
        Seconds for the whole of a call; 600 by default.
    client
        An ``AsyncOpenAI``, ``AsyncAzureOpenAI`` or a relative: it keeps its own base URL,
        credentials, headers and time-outs.
    http_client
        An ``httpx2.AsyncClient`` to send with.
    transport
        ``"lean"``, ``"sdk"`` (through the ``openai`` package), or ``"auto"``: lean where that
        can do what is asked.

    Raises
    ------
    ValueError, TypeError
        For arguments that exclude each other or cannot be sent, and for clients that are not
        async.
    ProviderError
        "bad_url", for a ``base_url`` that cannot be one.

    >>> provider = OpenAIProvider("sk-example", base_url="http://localhost:8000/v1/")
    >>> provider.base_url, provider.default_model
    ('http://localhost:8000/v1', 'gpt-4.1-mini')
    """

    kind = "openai"
    options: ClassVar[frozenset[str]] = frozenset(
        (
            *("api_key", "base_url", "organization", "project", "extra_headers", "timeout"),
            *("client", "http_client", "transport"),
        )
    )
    default_model = "gpt-4.1-mini"

    parameters: ClassVar[frozenset[str]] = PARAMETERS
    """The parameters that calls take; others go in ``extra_body``."""

    def __init__(
        self,
        api_key: str | Callable[[], Any] | None = None,
        *,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        client: Any = None,
        http_client: Any = None,
        transport: Literal["auto", "lean", "sdk"] = "auto",
    ) -> None:
        own = checked_headers(dict(extra_headers or {}))
        timeouts = checked_timeouts(timeout)
        if client is not None:
            theirs = (api_key, base_url, organization, project, http_client)
            if any(given is not None for given in theirs):
                raise ValueError("client= has a key, base_url and the like: set them there")
            if transport == "lean":
                raise ValueError("transport='lean' cannot send through client=: leave one out")
            through = OpenAISDK(client, timeouts=timeouts if timeout is not None else None)
            self.base_url = str(client.base_url).rstrip("/")
            key = getattr(client, "api_key", None)
            self._connect(through, own, key if isinstance(key, str) and key else str(id(client)))
            return
        named = (os.environ.get("OPENAI_BASE_URL") or SERVICE_URL).strip().rstrip("/")
        self.base_url = checked_base_url(base_url or named, route=ROUTE, example=SERVICE_URL)
        # What the environment holds is for the service that the environment names.
        trusted = self.base_url == named or _is_openai(self.base_url)
        if trusted:
            api_key = os.environ.get("OPENAI_API_KEY") if api_key is None else api_key
            organization = organization or os.environ.get("OPENAI_ORG_ID")
            project = project or os.environ.get("OPENAI_PROJECT_ID")
        function = api_key if callable(api_key) else None
        secret = "" if callable(api_key) else (api_key or "").strip()
        headers = merged_headers(
            HEADERS,
            {"Authorization": f"Bearer {secret}"} if secret else {},
            {"OpenAI-Organization": organization} if organization else {},
            {"OpenAI-Project": project} if project else {},
            environment_headers("OPENAI_CUSTOM_HEADERS") if trusted else {},
            own,
        )
        self._connect(
            OpenAISDK(http_client=http_client, key=function, timeouts=timeouts)
            if needs_sdk(transport, self.base_url, key=function, http_client=http_client)
            else Transport(timeouts=timeouts),
            checked_headers(headers),
            str(id(function)) if function else secret,
            keyless=not function and not {name.lower() for name in headers} & set(CREDENTIALS),
        )

    def _connect(
        self,
        transport: Transport | OpenAISDK,
        headers: Mapping[str, str],
        credentials: str,
        *,
        keyless: bool = False,
    ) -> None:
        """Send over ``transport``; ``headers`` are those that it does not add itself."""
        self._transport = transport
        self._headers = headers
        self._keyless = keyless
        self._secrets = {credentials, *secret_values(headers)}
        self.identity = digest(self.kind, self.base_url, credentials)

    def prepare(
        self, model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
    ) -> Call:
        """Check the parameters and write down what the requests of a column share."""
        fields = shared_fields(
            model,
            parameters,
            answer,
            known=self.parameters,
            limit_name="max_completion_tokens" if _is_openai(self.base_url) else "max_tokens",
        )
        more = checked_headers(dict(parameters.get("extra_headers") or {}))
        headers = merged_headers(self._headers, more)
        return Call(
            model,
            parameters,
            answer,
            Shared(body_start(fields), headers, frozenset(fields), secret_values(more)),
        )

    async def complete(self, request: Request) -> Completion:
        """Ask once, without retries. Raises ``ProviderError`` and nothing else."""
        shared: Shared = request.call.body
        if self._keyless and _is_openai(self.base_url):
            raise ProviderError(
                "no key for OpenAI: pass api_key=... to generator(), or set OPENAI_API_KEY",
                kind="authentication",
                scope="run",
            )
        url = self.base_url + ROUTE
        body = request_body(shared.start, request.messages)
        started = time.perf_counter()
        reply = await self._transport.post(url, shared.headers, body)
        latency = time.perf_counter() - started
        if is_error(reply):
            raise error_of(
                reply,
                url=url,
                model=request.call.model,
                sent=shared.sent,
                secrets=self._secrets | shared.secrets,
            )
        return completion_of(reply, latency)

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._transport.aclose()


def _is_openai(base_url: str) -> bool:
    """Whether OpenAI itself answers there, or Azure for it."""
    host = urlsplit(base_url).hostname or ""
    return host == "api.openai.com" or host.endswith((".api.openai.com", *_AZURE))
