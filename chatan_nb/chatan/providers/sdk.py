"""Requests through the OpenAI and Anthropic SDKs, in the shape of the lean transport.

For what only the SDKs can do: a client the user made (Azure, Bedrock, Vertex), an own HTTP
client, keys that a function gives, credentials kept in files, SOCKS proxies. What comes back is
a ``Reply`` or a ``ProviderError``, so that one parser and one error sorter serve both paths.
"""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ClassVar
from urllib.parse import urlsplit

from chatan.providers.base import ProviderError
from chatan.providers.http import Reply, Timeouts, checked_headers
from chatan.providers.network import Proxies
from chatan.providers.settings import Headers

CREDENTIALS = ("authorization", "api-key", "x-api-key")
"""Names of the headers that hold a key, in lower case."""

_SELF_DESCRIPTION = {"accept", "content-type", "user-agent"}


class SDKTransport(ABC):
    """A ``Transport`` that sends through an SDK client, without the SDK's own retries.

    Connections belong to the event loop they were opened on, so what sends is a twin of
    ``client`` with connections of its own, made anew on another loop: the user's client stays
    usable where it was made, and a forked child opens its own.

    Parameters
    ----------
    client
        A client that the user made, or a function that makes one. It keeps its own base URL,
        credentials and headers: of what ``post`` is given, only the body counts, and headers
        are those to add. Without one, a client is made that sends exactly the URL and the
        headers that ``post`` is given.
    http_client
        An HTTP client of the user's, for the client that is made here.
    key
        A function, sync or async, that gives the key of the next call.
    timeouts
        ``None`` keeps the time-outs of ``client``.

    Raises
    ------
    TypeError
        If ``client`` or ``http_client`` is not async, or of another SDK.

    >>> from openai import AsyncOpenAI
    >>> transport = OpenAISDK(AsyncOpenAI(api_key="sk-example"))
    """

    package: ClassVar[str]
    client_name: ClassVar[str]
    route: ClassVar[str]

    def __init__(
        self,
        client: Any = None,
        *,
        http_client: Any = None,
        key: Callable[[], Any] | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        if client is not None and not callable(client):
            _check_client(client, self.package, self.client_name)
        if http_client is not None and not iscoroutinefunction(getattr(http_client, "send", None)):
            raise TypeError(
                "http_client= takes an async client: write httpx2.AsyncClient(...), "
                f"not {type(http_client).__name__}(...)"
            )
        self._client = client
        self._http_client = http_client
        self._key = key
        self._timeouts = Timeouts() if timeouts is None and client is None else timeouts
        self._sender: Any = None
        self._transports: list[Any] = []
        self._home: asyncio.AbstractEventLoop | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send ``body`` and wait for the whole answer; every status is a ``Reply``.

        Raises
        ------
        ProviderError
            As ``Transport.post`` does; and "authentication" (run) where the client finds no
            credentials, or code of the user's that it calls fails.
        """
        import httpx2
        import orjson

        try:
            sender = self._sender_here()
            sent = Headers(await self._headers(sender, headers))
            options: dict[str, Any] = {"headers": sent, "max_retries": 0}
            if self._client is None:
                options["follow_redirects"] = False  # a key must not go to a host nobody named
            if self._timeouts is not None:
                options["timeout"] = _httpx_timeout(self._timeouts)
            async with asyncio.timeout(self._timeouts.total if self._timeouts else None):
                response = await sender.post(
                    url if self._client is None else self.route,
                    cast_to=httpx2.Response,
                    body=orjson.loads(body),
                    options=options,
                )
        except ProviderError:
            raise
        except Exception as error:
            sdk = self._sdk()
            if not isinstance(error, sdk.APIStatusError):
                raise _sorted(error, sdk, self._server(url)) from None  # its frames hold the key
            response = error.response
        return Reply(response.status_code, response.headers, _without_credentials(response))

    async def aclose(self) -> None:
        """Close the connections; the next ``post`` opens new ones."""
        transports, home = self._transports, self._home
        self._sender, self._transports, self._home = None, [], None
        if home is asyncio.get_running_loop():  # those of another loop are not ours to close
            for transport in transports:
                await transport.aclose()

    @abstractmethod
    def _sdk(self) -> Any:
        """The SDK's package, imported."""

    @abstractmethod
    def _make(self) -> Any:
        """A client whose credentials and base URL do not matter: every call brings them."""

    def _sender_here(self) -> Any:
        """The client for this event loop."""
        here = asyncio.get_running_loop()
        if self._home is not here:
            client = self._client
            if client is None or callable(client):
                _check_socks()
                client = client() if client else self._make()
            if client.is_closed():
                raise ProviderError(
                    f"the {type(client).__name__} that was given is closed: give an open one",
                    kind="connection",
                    scope="run",
                )
            http_client, self._transports = _with_own_connections(client._client)
            self._sender, self._home = client.copy(http_client=http_client), here
        return self._sender

    async def _headers(self, sender: Any, headers: Mapping[str, str]) -> dict[str, Any]:
        sent: dict[str, Any] = dict(headers)
        if self._key is not None:
            key = self._key()
            key = await key if isawaitable(key) else key
            if not isinstance(key, str) or not key.strip():
                raise TypeError(f"the function for api_key gave {type(key).__name__}, not a key")
            sent |= checked_headers({"Authorization": f"Bearer {key.strip()}"})
        if self._client is None:
            # What the SDK would add from the environment stays out: what goes to this server
            # was decided before.
            omit = self._sdk().Omit()
            named = {name.lower() for name in sent} | _SELF_DESCRIPTION
            for name in (*sender.default_headers, "Authorization"):
                if not (name.lower() in named or name.lower().startswith("x-stainless-")):
                    sent[name] = omit
        return sent

    def _server(self, url: str) -> str:
        if self._sender is not None and self._client is not None:
            url = str(self._sender.base_url)
        return urlsplit(url).netloc.rpartition("@")[2] or self.package


class OpenAISDK(SDKTransport):
    """Through ``openai``: ``AsyncOpenAI``, ``AsyncAzureOpenAI`` or a relative."""

    package = "openai"
    client_name = "AsyncOpenAI"
    route = "/chat/completions"

    def _sdk(self) -> Any:
        import openai

        return openai

    def _make(self) -> Any:
        return self._sdk().AsyncOpenAI(api_key="unused", http_client=self._http_client)


class AnthropicSDK(SDKTransport):
    """Through ``anthropic``: ``AsyncAnthropic``, ``AsyncAnthropicBedrock`` or a relative."""

    package = "anthropic"
    client_name = "AsyncAnthropic"
    route = "/v1/messages"

    def _sdk(self) -> Any:
        import anthropic

        return anthropic

    def _make(self) -> Any:
        return self._sdk().AsyncAnthropic(api_key="unused", http_client=self._http_client)


def needs_sdk(
    transport: str, url: str, *, key: Callable[[], Any] | None = None, http_client: Any = None
) -> bool:
    """Whether calls of ``url`` go through the SDK: because it was asked for, or only it can.

    Raises ``ValueError`` where that contradicts ``transport``: "auto", "lean" or "sdk".
    """
    if transport not in ("auto", "lean", "sdk"):
        raise ValueError(f"transport is 'auto', 'lean' or 'sdk', not {transport!r}")
    reasons = {
        "a function for api_key": key is not None,
        "http_client": http_client is not None,
        "the SOCKS proxy of the environment": (
            (Proxies.from_environment().of(url) or "").startswith("socks")
        ),
    }
    reason = next((name for name, holds in reasons.items() if holds), None)
    if reason and transport == "lean":
        raise ValueError(f"transport='lean' cannot use {reason}: write transport='auto'")
    return transport == "sdk" or reason is not None


def _check_socks() -> None:
    """Raise where a client would fail half-made: the SDKs' complain once more when collected."""
    proxies = Proxies.from_environment().by_scheme.values()
    if any(proxy.startswith("socks") for proxy in proxies) and find_spec("socksio") is None:
        raise ProviderError(
            "the environment names a SOCKS proxy, for which a package is missing: "
            "pip install socksio",
            kind="connection",
            scope="run",
        )


def _httpx_timeout(timeouts: Timeouts) -> Any:
    import httpx2

    return httpx2.Timeout(timeouts.total, connect=timeouts.connect)


def _check_client(client: Any, package: str, name: str) -> None:
    """Raise ``TypeError`` for what is no async client of this SDK."""
    packages = {base.__module__.partition(".")[0] for base in type(client).__mro__}
    if package not in packages:
        raise TypeError(f"client= takes a client of the {package} SDK, not {type(client)!r}")
    if not iscoroutinefunction(getattr(client, "post", None)):
        raise TypeError(
            f"client= takes an async client: write {name}(...), not {type(client).__name__}(...)"
        )


def _with_own_connections(http_client: Any) -> tuple[Any, list[Any]]:
    """A twin of an HTTP client that shares all but the connections; and what holds its own.

    HTTP clients cannot be cloned by their public interface, and one that is used on two event
    loops hangs. A transport that the user wrote stays as it is: what it holds is for its author
    to know.
    """
    transports: list[Any] = []

    def renewed(transport: Any) -> Any:
        twin = copy.copy(transport)
        if hasattr(getattr(transport, "_pool", None), "_connections"):
            twin._pool = copy.copy(transport._pool)
            twin._pool._connections, twin._pool._requests = [], []
        elif type(transport).__name__ == "AiohttpTransport":  # of the SDKs' DefaultAioHttpClient
            twin.client = None
        else:
            return transport
        transports.append(twin)
        return twin

    twin = copy.copy(http_client)
    twin._transport = renewed(http_client._transport)
    twin._mounts = {pattern: renewed(each) for pattern, each in http_client._mounts.items()}
    return twin, transports


def _sorted(error: Exception, sdk: Any, server: str) -> ProviderError:
    """What an SDK raised where no status came back."""
    import httpx2

    cause = error.__cause__ or error
    words = " ".join(f"{type(cause).__name__}: {cause}".split()).removesuffix(":")
    if isinstance(error, sdk.APITimeoutError | httpx2.TimeoutException | TimeoutError):
        return ProviderError(
            f"no answer from {server} in time ({words})", kind="timeout", scope="later"
        )
    if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return ProviderError(f"base_url is no URL: {cause}", kind="bad_url", scope="run")
    if isinstance(cause, httpx2.DecodingError) or "message body" in str(cause):
        return ProviderError(
            f"the answer of {server} broke off or cannot be decoded ({words})",
            kind="broken_answer",
            scope="later",
        )
    if isinstance(error, sdk.APIConnectionError | httpx2.TransportError | OSError):
        return ProviderError(
            f"no connection to {server} ({words})", kind="connection", scope="later"
        )
    # What is left comes from looking for credentials, or from hooks of the user's client.
    return ProviderError(f"cannot ask {server} ({words})", kind="authentication", scope="run")


def _without_credentials(response: Any) -> bytes:
    """The body of an answer; that of an error without the credentials it may echo."""
    body: bytes = response.content
    if response.status_code >= 400:
        for name in CREDENTIALS:
            secret = response.request.headers.get(name, "").removeprefix("Bearer ").encode()
            if len(secret) >= 4:
                body = body.replace(secret, b"***")
    return body
