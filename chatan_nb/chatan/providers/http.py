"""The lean transport: one pooled HTTP session, and what comes back as data or a sorted error.

It is made of aiohttp. pyreqwest costs about half as much a call, but it does not work in a forked
child, knows no Unix sockets, refuses certificates that the SDKs accept, and can crash the
interpreter at its end.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

from chatan.providers.base import ErrorKind, ProviderError
from chatan.providers.network import Proxies, ssl_context

if TYPE_CHECKING:
    import aiohttp

_LARGE_BODY = 2**20  # bytes: aiohttp wants more than this as a file, so as not to block the loop
_LONG_LINE = 2**16  # bytes of a header: gateways send longer ones than aiohttp's limit of 8 KiB
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_reused: ContextVar[bool] = ContextVar("reused", default=False)
"""Whether the request of this task went out on a connection that had been used before."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds: for a connection, and for all of a call."""

    connect: float = 10.0
    total: float = 600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered, whatever its status; ``headers`` are looked up in any case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)  # services echo keys


class Transport:
    """One pooled HTTP session, made when it is first used.

    It is made anew on another event loop and in a forked child. ``unix_socket`` is the path of
    a socket to ask instead of the host of the URL. With ``trust_env`` the environment's proxies
    and certificates are used (``network.py``). Redirects are answers, not followed: a key must
    not go to a host that nobody named.

    >>> async def status() -> int:
    ...     transport = Transport(timeouts=Timeouts(total=5.0))
    ...     reply = await transport.post("http://127.0.0.1:8000/v1/chat/completions", {}, b"{}")
    ...     await transport.aclose()
    ...     return reply.status
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts = Timeouts(),
        unix_socket: str | None = None,
        trust_env: bool = True,
    ) -> None:
        self._timeouts = timeouts
        self._unix_socket = unix_socket
        self._trust_env = trust_env
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._targets: dict[str, dict[str, Any]] = {}
        _transports.add(self)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send ``body`` and wait for the whole answer; every status is a ``Reply``.

        A connection that the server has closed since the last call is replaced, once, where
        nothing was answered on it.

        Raises
        ------
        ProviderError
            Scope ``"later"``: ``"connection"`` (refused, reset, DNS, TLS), ``"timeout"``,
            ``"broken_answer"`` (truncated or undecodable). Scope ``"run"``: ``"bad_url"``.
        """
        import aiohttp

        target = self._targets.get(url) or self._target(url)
        session = self._session()
        _reused.set(False)
        try:
            try:
                response = await session.post(**target, headers=headers, data=_payload(body))
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if session.closed or not _reused.get():
                    raise
                async with self._open() as fresh:
                    response = await fresh.post(**target, headers=headers, data=_payload(body))
                    return Reply(response.status, response.headers, await response.read())
            return Reply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise self._sorted(error, url) from None  # its frames hold the key

    async def aclose(self) -> None:
        """Close the connections; the next ``post`` opens new ones."""
        sessions, self._sessions = self._sessions, {}
        here = asyncio.get_running_loop()
        for loop, session in sessions.items():
            if loop is here or loop.is_closed():
                await session.close()
            else:
                asyncio.run_coroutine_threadsafe(session.close(), loop)

    def _target(self, url: str) -> dict[str, Any]:
        """What every request to ``url`` is given; worked out once."""
        from yarl import URL

        try:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("it has no http:// or https:// and a host")
            parts.hostname.encode("idna")  # or the look-up of the name would raise
            arguments: dict[str, Any] = {"url": URL(url), "allow_redirects": False}
        except ValueError as error:
            raise ProviderError(
                f"{url!r} cannot be asked ({error}): write a URL such as http://127.0.0.1:8000/v1",
                kind="bad_url",
                scope="run",
            ) from error
        if self._trust_env and self._unix_socket is None:
            proxy = Proxies.from_environment().of(url)
            if proxy is not None and proxy.startswith("socks"):
                raise ProviderError(
                    "the environment names a SOCKS proxy, which this transport cannot use: "
                    "write transport='sdk'",
                    kind="bad_url",
                    scope="run",
                )
            arguments["proxy"] = proxy
        if parts.scheme == "https":
            try:
                arguments["ssl"] = ssl_context(trust_env=self._trust_env)
            except OSError as error:
                raise ProviderError(
                    f"SSL_CERT_FILE or SSL_CERT_DIR names what cannot be read: {error}",
                    kind="connection",
                    scope="run",
                ) from error
        self._targets[url] = arguments
        return arguments

    def _session(self) -> aiohttp.ClientSession:
        """The session of the running loop."""
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            session = self._sessions[loop] = self._open()
        return session

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        connector: aiohttp.BaseConnector
        if self._unix_socket is None:
            connector = aiohttp.TCPConnector(limit=0)
        else:
            connector = aiohttp.UnixConnector(self._unix_socket, limit=0)
        timeouts = self._timeouts
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeouts.total, connect=timeouts.connect),
            request_class=_request_class(),
            max_line_size=_LONG_LINE,
            max_field_size=_LONG_LINE,
        )

    def _sorted(self, error: Exception, url: str) -> ProviderError:
        """The error of a call that brought no whole answer."""
        import aiohttp

        parts = urlsplit(url)
        server = self._unix_socket or f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        kind: ErrorKind = "connection"
        match error:
            case aiohttp.ConnectionTimeoutError():
                kind = "timeout"
                message = f"no connection to {server} within {self._timeouts.connect:g} seconds"
            case TimeoutError():
                kind = "timeout"
                message = f"no answer from {server} within {self._timeouts.total:g} seconds"
            case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
                message = f"the proxy on the way to {server} failed: {_words(error)}"
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
                message = (
                    f"no secure connection to {server}: {_words(error)}; "
                    "SSL_CERT_FILE can name the certificates to trust"
                )
            case aiohttp.ClientConnectorError():
                message = f"no connection to {server}: {_words(error)}; does the server run?"
            case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
                kind = "broken_answer"
                message = f"the answer of {server} broke off or cannot be read: {_words(error)}"
            case _:
                message = f"the connection to {server} was lost: {_words(error)}"
        return ProviderError(message, kind=kind, scope="later")


_transports: WeakSet[Transport] = WeakSet()
_inherited: list[object] = []


def _leave_to_parent() -> None:
    """In a forked child: forget the parent's sessions, and never close what it still uses."""
    for transport in _transports:
        _inherited.append(transport._sessions)
        transport._sessions = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@lru_cache
def _request_class() -> type[aiohttp.ClientRequest]:
    """A request that notes whether its connection had been used before."""
    import aiohttp
    from aiohttp.connector import Connection

    used: WeakSet[object] = WeakSet()

    class Request(aiohttp.ClientRequest):
        async def send(self, conn: Connection) -> aiohttp.ClientResponse:
            _reused.set(conn.protocol in used)
            used.add(conn.protocol)
            return await super().send(conn)

    return Request


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= _LARGE_BODY else io.BytesIO(body)


def _words(error: Exception) -> str:
    """The first line of what an error says of itself, or of its cause where it has one."""
    cause: Any = getattr(error, "os_error", None) or error
    text = getattr(cause, "strerror", None) or getattr(cause, "message", None) or str(cause)
    return re.split(r"\n|: <", str(text).strip())[0] or type(error).__name__


def checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    r"""``headers``, if they can be sent. The error names a header, never what it holds.

    >>> checked_headers({"X-Team": "data\n"})
    Traceback (most recent call last):
    ValueError: the header 'X-Team' holds a line break or control character: leave it out
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if not isinstance(value, str):
            raise TypeError(f"the header {name!r} is a text, not a {type(value).__name__}")
        if _CONTROL.search(value):
            raise ValueError(
                f"the header {name!r} holds a line break or control character: leave it out"
            )
        if not value.isascii():
            key = " (is the key copied whole?)" if name.lower() == "authorization" else ""
            raise ValueError(f"the header {name!r} holds characters other than ASCII{key}")
    return headers


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait, or ``None`` where it says nothing readable.

    ``retry-after-ms``, else ``retry-after`` as a number or an HTTP date; never negative.

    >>> retry_after({"retry-after": "2"})
    2.0
    """
    for name, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            wait = float(text) * seconds
        except ValueError:
            wait = _until(text)
        if math.isfinite(wait):
            return max(0.0, wait)
    return None


def _until(date: str) -> float:
    """The seconds from now to an HTTP date; not a number for what is none."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return math.nan


def decode_json(body: bytes) -> tuple[Any, bool]:
    r"""The JSON value of ``body``, and whether lone surrogates in it became U+FFFD.

    Raises ``ProviderError`` (``"broken_answer"``, later) for what is not JSON or not UTF-8.

    >>> decode_json(b'{"a": "\\ud83d!"}')
    ({'a': '�!'}, True)
    """
    import orjson

    try:
        return orjson.loads(body), False
    except orjson.JSONDecodeError:
        pass  # half characters and NaN, which orjson refuses, or no JSON at all
    try:
        value = json.loads(body.decode("utf-8-sig"))
        text = json.dumps(value, ensure_ascii=False)
        whole = _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
        return (json.loads(whole), True) if whole != text else (value, False)
    except (ValueError, RecursionError) as error:
        start = body[:60].decode("utf-8", "replace")
        raise ProviderError(
            f"the answer is no JSON ({error}); it begins {start!r}",
            kind="broken_answer",
            scope="later",
        ) from error
