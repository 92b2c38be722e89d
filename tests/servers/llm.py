"""A language model service for tests: OpenAI's and Anthropic's HTTP interface, with faults.

``python tests/servers/llm.py --port 0`` prints its address; ``--unix PATH`` serves a socket.
Options stand in a path prefix, so any client with a base_url works:
``http://127.0.0.1:PORT/lat=100,e429=5/v1`` (Anthropic: the same without ``/v1``); ``Options``
lists them. Under every prefix, and for all of them at the root, ``/requests`` gives what was
asked (method, path, headers, body), ``/stats`` the counts, and ``/reset`` forgets both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import math
import socket
import ssl
import struct
import sys
from pathlib import Path
from typing import Any

import orjson

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).parents[1]))
    __package__ = "servers"

from servers import answers, errors
from servers.options import Options, Scope

KEPT_REQUESTS = 50_000
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
MODELS = ["gpt-4.1-mini", "gpt-4.1", "claude-haiku-4-5"]


class Service:
    """The scopes of a server: one for every path prefix."""

    def __init__(self) -> None:
        self.scopes: dict[str, Scope] = {}
        self.numbers = itertools.count(1)
        self.connections = 0

    def scope(self, prefix: str) -> Scope:
        found = self.scopes.get(prefix)
        if found is None:
            found = self.scopes[prefix] = Scope(Options.read(prefix), KEPT_REQUESTS)
        return found

    def chosen(self, prefix: str) -> list[Scope]:
        return [self.scope(prefix)] if prefix else list(self.scopes.values())

    def control(self, name: str, prefix: str) -> Any:
        """The answer of ``/requests``, ``/stats`` or ``/reset``; ``None`` for another path."""
        scopes = self.chosen(prefix)
        if name == "/requests":
            return [readable(*record) for scope in scopes for record in scope.records]
        if name == "/stats":
            total: dict[str, int] = {"connections": self.connections}
            for scope in scopes:
                for key, value in scope.stats().items():
                    total[key] = total.get(key, 0) + value
            return total
        if name == "/reset":
            for scope in scopes:
                scope.__post_init__()
                scope.statuses.clear()
                scope.attempts.clear()
                scope.requests = scope.most_running = 0
            return {}
        if name == "/v1/models":
            models = [{"id": model, "object": "model", "owned_by": "tests"} for model in MODELS]
            return {"object": "list", "data": models}
        return {"ok": True} if name == "/healthz" else None


def readable(method: str, target: str, head: bytes, body: bytes) -> dict[str, Any]:
    """A recorded request as JSON: header names in lower case, the body parsed if it can be."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = body.decode("utf-8", "replace")
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return {"method": method, "path": target, "headers": headers, "body": parsed}


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, kept alive."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.busy = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.service.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self.advance()

    def advance(self) -> None:
        """Take the next request out of the buffer, if all of it is there."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end])
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        length = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        self.busy = True
        self.handle(head, body)

    def handle(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        first, _, rest = target[1:].partition("/")
        prefix, path = (first, f"/{rest}") if "=" in first.partition("?")[0] else ("", target)
        name = path.partition("?")[0]
        try:
            scope = self.service.scope(prefix)
        except ValueError as error:
            return self.say(400, str(error).encode(), "text/plain")
        if method == "GET":
            value = self.service.control(name, prefix)
            if value is not None:
                return self.say(200, orjson.dumps(value))
        scope.records.append((method, target, head, body))
        service = "anthropic" if name == "/v1/messages" else "openai"
        deployed = name.startswith("/openai/deployments/")
        if not (name == "/v1/chat/completions" or service == "anthropic" or deployed):
            return self.say(404, errors.HTML % (b"404 Not Found", b"Not Found"), "text/html")
        try:
            asked = orjson.loads(body)
            asked.setdefault("model", "deployed")
            prompt = answers.prompt_of(asked["messages"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return self.fail(service, "badrequest", {}, head, scope)
        scope.requests += 1
        scope.running += 1
        scope.most_running = max(scope.most_running, scope.running)
        missing = scope.wait_for_token()
        fault = "429" if missing else scope.draw_fault(prompt)
        wait = 0.0 if missing else scope.draw_latency(prompt)
        arguments = (service, fault, asked, prompt, head, scope, missing)
        if wait:
            self.loop.call_later(wait, self.answer, *arguments)
        else:
            self.answer(*arguments)
        return None

    def answer(
        self,
        service: str,
        fault: str,
        asked: dict[str, Any],
        prompt: str,
        head: bytes,
        scope: Scope,
        missing: float,
    ) -> None:
        scope.running -= 1
        if self.lost:
            scope.statuses["gone"] += 1
            return
        if fault == "stall":
            scope.statuses["stalled"] += 1
            return
        if fault == "reset":
            scope.statuses["reset"] += 1
            self.reset()
            return
        if fault in ("html", "noroute"):
            page = errors.HTML % (b"Welcome", b"Sign in to the network")
            scope.statuses["200" if fault == "html" else "404"] += 1
            self.say(200 if fault == "html" else 404, page, "text/html; charset=utf-8")
            return
        if fault and self.fail(service, fault, asked, head, scope, missing):
            return
        build = answers.anthropic_message if service == "anthropic" else answers.openai_completion
        text = answers.text_for(asked, prompt, scope.options.len, fault)
        thoughts = bool(scope.options.think)
        made = build(asked, text, fault, next(self.service.numbers), thoughts)
        # orjson refuses half characters, which json escapes
        body = json.dumps(made).encode() if fault == "surrogate" else orjson.dumps(made)
        if fault == "badjson":
            body = body[: len(body) * 2 // 3]
        elif fault == "nonutf8":
            body = body.replace(b"h=", b"\xff\xfe=", 1)
        scope.statuses["truncated" if fault == "truncate" else "200"] += 1
        self.say(200, body, scope=scope, service=service, cut=fault == "truncate")

    def fail(
        self,
        service: str,
        fault: str,
        asked: dict[str, Any],
        head: bytes,
        scope: Scope,
        missing: float = 0.0,
    ) -> bool:
        """Answer with an error, if ``fault`` is the name of one."""
        key = ""
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() in ("authorization", "x-api-key"):
                key = value.strip().removeprefix("Bearer ")
        found = errors.error(service, fault, asked, key)
        if found is None:
            return False
        status, value = found
        scope.statuses[str(status)] += 1
        after = scope.options.ra
        if missing:
            after = f"{math.ceil(missing)}\r\nretry-after-ms: {math.ceil(missing * 1000)}"
        more = f"retry-after: {after}\r\n" if after else ""
        self.say(status, orjson.dumps(value), scope=scope, service=service, more=more)
        return True

    def say(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        *,
        scope: Scope | None = None,
        service: str = "",
        more: str = "",
        cut: bool = False,
    ) -> None:
        """Send an answer; ``cut`` sends half of it and hangs up."""
        if scope is not None:
            more += limits(scope, service, next(self.service.numbers))
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n{more}\r\n"
        )
        self.busy = False
        if cut:
            self.transport.write(head.encode("latin-1") + body[: len(body) // 2])
            self.transport.close()
            return
        self.transport.write(head.encode("latin-1") + body)
        if scope is not None and scope.options.close:
            self.loop.call_later(scope.options.close / 1000, self.close_idle)
        if self.buffer:
            self.advance()

    def close_idle(self) -> None:
        """Hang up between requests, as servers do with connections kept alive for long."""
        if not self.busy:
            self.transport.close()

    def reset(self) -> None:
        """Hang up the hard way: the client sees "connection reset"."""
        raw = self.transport.get_extra_info("socket")
        if raw.family != getattr(socket, "AF_UNIX", None):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def limits(scope: Scope, service: str, number: int) -> str:
    """The headers in which a service names the request and its limits."""
    limit = int(scope.options.rps * 60) or 10_000
    left = int(scope.tokens) if scope.options.rps else limit - 1
    if service == "anthropic":
        return (
            f"request-id: req_{number:012d}\r\nanthropic-ratelimit-requests-limit: {limit}\r\n"
            f"anthropic-ratelimit-requests-remaining: {left}\r\n"
            f"anthropic-ratelimit-tokens-limit: 2000000\r\n"
            f"anthropic-ratelimit-tokens-remaining: 1999000\r\n"
        )
    return (
        f"x-request-id: req_{number:012d}\r\nopenai-processing-ms: 12\r\n"
        f"x-ratelimit-limit-requests: {limit}\r\nx-ratelimit-remaining-requests: {left}\r\n"
        f"x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-limit-tokens: 2000000\r\n"
        f"x-ratelimit-remaining-tokens: 1999000\r\nx-ratelimit-reset-tokens: 30ms\r\n"
    )


async def serve(port: int, unix: str | None, tls: list[str] | None, until_eof: bool) -> None:
    """Serve until it is ended, or until standard input closes."""
    loop = asyncio.get_running_loop()
    service = Service()
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    if unix:
        server = await loop.create_unix_server(lambda: Connection(service), unix, backlog=2048)
        print(unix, flush=True)
    else:
        server = await loop.create_server(
            lambda: Connection(service), "127.0.0.1", port, ssl=context, backlog=2048
        )
        bound = server.sockets[0].getsockname()[1]
        print(f"{'https' if tls else 'http'}://127.0.0.1:{bound}", flush=True)
    if until_eof:
        await loop.run_in_executor(None, sys.stdin.buffer.read)
    else:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--unix", help="path of a socket to serve instead of a port")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="serve HTTPS")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin closes")
    given = parser.parse_args()
    gc.set_threshold(100_000)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.port, given.unix, given.tls, given.until_eof))


if __name__ == "__main__":
    main()
