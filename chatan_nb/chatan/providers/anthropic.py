"""Anthropic's service as a provider: whom to ask, with which credentials, over which path."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from chatan.providers.anthropic_errors import error_of
from chatan.providers.anthropic_wire import completion_of, is_error, request_body, shared_fields
from chatan.providers.base import AnswerFormat, Call, Completion, Provider, ProviderError, Request
from chatan.providers.body import Shared, body_start
from chatan.providers.http import Transport, checked_headers
from chatan.providers.sdk import CREDENTIALS, AnthropicSDK, needs_sdk
from chatan.providers.settings import (
    checked_base_url,
    checked_timeouts,
    digest,
    environment_headers,
    merged_headers,
    secret_values,
)

SERVICE_URL = "https://api.anthropic.com"
ROUTE = "/v1/messages"
HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "anthropic-version": "2026-10-21",
}


class AnthropicProvider(Provider):
    """Models of Anthropic's Messages API, or of a server that speaks it.

    The default model is ``claude-haiku-5-5``, the smallest and cheapest of the current ones.
    ``max_tokens`` is 4096 unless it is set, for the service wants a number.

    Parameters
    ----------
    api_key
        A key, or a function, sync or async, that gives the key of the next call. By default
        ANTHROPIC_API_KEY, or else ANTHROPIC_AUTH_TOKEN, or else the profile that the
        ``anthropic`` package finds. A key from the environment is sent to Anthropic and to
        ANTHROPIC_BASE_URL, never to another ``base_url``. It is needed at the first call.
    base_url
        What stands before ``/v1/messages``; by default ANTHROPIC_BASE_URL, or else
        ``https://api.anthropic.com``.
    auth_token
        A token instead of a key.
    extra_headers
        Sent with every call, over those of ANTHROPIC_CUSTOM_HEADERS.
    timeout
        Seconds for the whole of a call; 600 by default.
    client
        An ``AsyncAnthropic`` or a relative of it (Bedrock, Vertex, Foundry): it keeps its own
        base URL, credentials, headers and time-outs.
    http_client
        An ``httpx2.AsyncClient`` to send with.
    transport
        ``"lean"``, ``"sdk"``, or ``"auto"``: lean where that can do what is asked.

    Raises
    ------
    ValueError, TypeError
        For arguments that exclude each other, and for clients that are not async.
    ProviderError
        "bad_url", for a ``base_url`` that cannot be one.

    >>> provider = AnthropicProvider("sk-ant-example")
    >>> provider.base_url, provider.default_model
    ('https://api.anthropic.com', 'claude-haiku-5-5')
    """

    kind = "anthropic"
    options: ClassVar[frozenset[str]] = frozenset(
        (
            *("api_key", "base_url", "auth_token", "extra_headers", "timeout"),
            *("client", "http_client", "transport"),
        )
    )
    default_model = "claude-haiku-5-5"

    def __init__(
        self,
        api_key: str | Callable[[], Any] | None = None,
        *,
        base_url: str | None = None,
        auth_token: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        client: Any = None,
        http_client: Any = None,
        transport: Literal["auto", "lean", "sdk"] = "auto",
    ) -> None:
        if api_key is not None and auth_token is not None:
            raise ValueError("api_key and auth_token exclude each other: give one of them")
        timeouts = checked_timeouts(timeout)
        own = checked_headers(dict(extra_headers or {}))
        if client is not None:
            if any(given is not None for given in (api_key, auth_token, base_url, http_client)):
                raise ValueError("client= has a key, base_url and http_client: set them there")
            if transport == "lean":
                raise ValueError("transport='lean' cannot send through client=: leave one out")
            self._through(AnthropicSDK(client, timeouts=timeouts if timeout else None), own)
            self.base_url = str(client.base_url).rstrip("/")
            keys = (getattr(client, name, None) for name in ("api_key", "auth_token"))
            known = [key for key in keys if isinstance(key, str)] or [str(id(client))]
            self.identity = digest(self.kind, self.base_url, *known)
            return
        named = (os.environ.get("ANTHROPIC_BASE_URL") or SERVICE_URL).strip().rstrip("/")
        self.base_url = checked_base_url(base_url or named, route=ROUTE, example=SERVICE_URL)
        # What the environment holds is for the service that the environment names.
        trusted = self.base_url in (SERVICE_URL, named)
        key: Any = api_key if api_key is not None else auth_token
        if key is None and trusted:
            key = os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")
        function = key if callable(key) else None
        secret = "" if function else (key or "").strip()
        headers = merged_headers(
            HEADERS,
            {"Authorization": f"Bearer {secret}"} if secret else {},
            environment_headers("ANTHROPIC_CUSTOM_HEADERS") if trusted else {},
            own,
        )
        self.identity = digest(self.kind, self.base_url, str(id(function)) if function else secret)
        keyless = not function and not {name.lower() for name in headers} & set(CREDENTIALS)
        if keyless and trusted and transport != "lean" and _finds_profile():
            self._through(AnthropicSDK(_profile_client, timeouts=timeouts), own)
        elif needs_sdk(transport, self.base_url, key=function, http_client=http_client):
            sdk = AnthropicSDK(http_client=http_client, key=function, timeouts=timeouts)
            self._through(sdk, headers, keyless=keyless)
        else:
            self._through(Transport(timeouts=timeouts), headers, keyless=keyless)

    def _through(
        self, transport: Transport | AnthropicSDK, headers: Mapping[str, str], keyless: bool = False
    ) -> None:
        """Send over ``transport``; ``headers`` are those it does not add itself."""
        self._transport = transport
        self._headers = checked_headers(headers)
        self._keyless = keyless

    def prepare(
        self, model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
    ) -> Call:
        """Check the parameters and write down what the requests of a column share."""
        fields, more = shared_fields(model, parameters, answer)
        headers = merged_headers(self._headers, checked_headers(more))
        secrets = secret_values(headers)
        shared = Shared(body_start(fields), headers, frozenset(fields), secrets)
        return Call(model, parameters, answer, shared)

    async def complete(self, request: Request) -> Completion:
        """Ask once, without retries. Raises ``ProviderError`` and nothing else."""
        shared: Shared = request.call.body
        if self._keyless and self.base_url == SERVICE_URL:
            raise ProviderError(
                "no key for Anthropic: pass api_key=... to generator(), or set ANTHROPIC_API_KEY",
                kind="authentication",
                scope="run",
            )
        body = request_body(shared.start, request.messages)
        started = time.perf_counter()
        reply = await self._transport.post(self.base_url + ROUTE, shared.headers, body)
        if is_error(reply):
            raise error_of(
                reply,
                url=self.base_url + ROUTE,
                model=request.call.model,
                sent=shared.sent,
                secrets=shared.secrets,
            )
        return completion_of(reply, time.perf_counter() - started)

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._transport.aclose()


def _profile_client() -> Any:
    """A client with the credentials that only the SDK can read: profiles, federated identities."""
    import anthropic

    return anthropic.AsyncAnthropic()


def _finds_profile() -> bool:
    """Whether the ``anthropic`` package would find credentials that are no key in a variable."""
    if os.environ.get("ANTHROPIC_PROFILE"):
        return True
    identity = ("ANTHROPIC_IDENTITY_TOKEN", "ANTHROPIC_IDENTITY_TOKEN_FILE")
    rule = ("ANTHROPIC_FEDERATION_RULE_ID", "ANTHROPIC_ORGANIZATION_ID")
    if all(map(os.environ.get, rule)) and any(map(os.environ.get, identity)):
        return True
    named = os.environ.get("ANTHROPIC_CONFIG_DIR")
    if named:
        return True
    if sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming", "Anthropic")
    else:
        folder = Path.home() / ".config" / "anthropic"
    return (folder / "active_config").is_file() or (folder / "configs" / "default.json").is_file()
