"""The lean transport against real sockets: what comes back, and what every way of failing is."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatan.providers.base import ProviderError
from chatan.providers.http import Reply, Timeouts, Transport, checked_headers, decode_json
from chatan.providers.http import retry_after as seconds_to_wait
from chatan.providers.network import Proxies
from servers import LanguageModelServer, language_model

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(timeouts=Timeouts(total=30.0))
    yield made
    await made.aclose()


class Script:
    """A server that answers each request with the next of some bytes; ``None`` hangs up."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[int, bytes]] = []  # connection number and head
        self.connections = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                self.requests.append((number, head))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def failure(posted: Coroutine[Any, Any, Reply]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await posted
    return caught.value


# What comes back


@pytest.mark.parametrize("status", [200, 201, 204, 307, 400, 404, 429, 500, 529])
async def test_every_status_is_a_reply(transport: Transport, status: int) -> None:
    length = "" if status == 204 else "Content-Length: 0\r\n"
    answer = f"HTTP/1.1 {status} Word\r\n{length}X-Request-ID: req_1\r\n\r\n".encode()
    async with Script(answer) as server:
        reply = await transport.post(server.url, {}, b"{}")
    assert (reply.status, reply.body) == (status, b"")
    assert reply.headers["x-request-id"] == reply.headers["X-REQUEST-ID"] == "req_1"


async def test_what_is_sent_arrives_as_it_is(
    transport: Transport, llm_server: LanguageModelServer
) -> None:
    endpoint = llm_server.endpoint()
    body = json.dumps({"messages": [{"role": "user", "content": "naïve 🌍"}]}).encode()
    headers = {"Authorization": "Bearer sk-1", "Content-Type": "application/json", "X-A": "b"}
    await transport.post(f"{endpoint.openai}/chat/completions", headers, body)
    (request,) = endpoint.requests()
    assert request["body"] == json.loads(body)
    sent = {name: request["headers"][name] for name in ("authorization", "content-type", "x-a")}
    assert sent == {name.lower(): value for name, value in headers.items()}
    assert "cookie" not in request["headers"]


async def test_a_body_of_megabytes_is_sent_whole(
    transport: Transport, llm_server: LanguageModelServer
) -> None:
    endpoint = llm_server.endpoint()
    prompt = "x" * 3_000_000
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    reply = await transport.post(f"{endpoint.openai}/chat/completions", {}, body)
    assert reply.status == 200
    assert endpoint.requests()[0]["body"]["messages"][0]["content"] == prompt


async def test_compressed_and_chunked_answers_are_unpacked(transport: Transport) -> None:
    packed = gzip.compress(b'{"a": 1}')
    zipped = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (
        len(packed),
        packed,
    )
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    async with Script(zipped, chunked) as server:
        assert (await transport.post(server.url, {}, b"")).body == b'{"a": 1}'
        assert (await transport.post(server.url, {}, b"")).body == b"abc"
        assert server.connections == 1


async def test_long_header_lines_are_read(transport: Transport) -> None:
    answer = OK.replace(b"\r\n\r\n", b"\r\nx-policy: " + b"p" * 40_000 + b"\r\n\r\n")
    async with Script(answer) as server:
        assert len((await transport.post(server.url, {}, b"")).headers["x-policy"]) == 40_000


async def test_no_cookie_is_kept(transport: Transport) -> None:
    async with Script(OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b\r\n\r\n"), OK) as server:
        await transport.post(server.url, {}, b"")
        await transport.post(server.url, {}, b"")
        assert b"a=b" not in server.requests[1][1]


async def test_a_redirect_is_not_followed(transport: Transport) -> None:
    async with Script(OK) as elsewhere:
        location = f"location: {elsewhere.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with Script(b"HTTP/1.1 307 Temporary Redirect\r\n" + location) as server:
            reply = await transport.post(server.url, {"x-api-key": "sk-secret"}, b"")
        assert reply.status == 307
        assert elsewhere.requests == []


# What goes wrong


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        b"SSH-2.0-OpenSSH_9.6\r\nconnection: close\r\n\r\n",
    ],
    ids=["cut", "cut chunk", "no gzip", "no HTTP"],
)
async def test_an_answer_that_cannot_be_read_is_broken(transport: Transport, answer: bytes) -> None:
    async with Script(answer) as server:
        error = await failure(transport.post(server.url, {}, b""))
    assert (error.kind, error.scope) == ("broken_answer", "later")
    assert "\n" not in str(error)


async def test_a_refused_connection(transport: Transport) -> None:
    async with Script() as server:
        url = server.url
    error = await failure(transport.post(url, {}, b""))
    assert (error.kind, error.scope) == ("connection", "later")
    assert f"127.0.0.1:{server.port}" in str(error)


async def test_a_name_that_is_not_there(transport: Transport) -> None:
    error = await failure(transport.post("http://no-such-host.invalid/v1", {}, b""))
    assert (error.kind, error.scope) == ("connection", "later")


async def test_no_tls_on_the_other_side(transport: Transport) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        error = await failure(transport.post(url, {}, b""))
    assert (error.kind, error.scope) == ("connection", "later")
    assert "secure" in str(error)


async def test_certificates_that_are_not_there(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    error = await failure(transport.post("https://127.0.0.1:1/v1", {}, b""))
    assert (error.kind, error.scope) == ("connection", "run")
    assert "SSL_CERT_FILE" in str(error)


async def test_a_server_that_never_answers(llm_server: LanguageModelServer) -> None:
    transport = Transport(timeouts=Timeouts(total=0.05))
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    url = f"{llm_server.endpoint(fault='stall').openai}/chat/completions"
    error = await failure(transport.post(url, {}, body))
    await transport.aclose()
    assert (error.kind, error.scope) == ("timeout", "later")
    assert "0.05 seconds" in str(error)


async def test_a_server_that_never_shakes_hands() -> None:
    transport = Transport(timeouts=Timeouts(connect=0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        error = await failure(transport.post(url, {}, b""))
    await transport.aclose()
    assert (error.kind, error.scope) == ("timeout", "later")
    assert "no connection" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000/v1", "/v1", "ftp://host/v1", "http://", "http:///v1", "http://[::1"),
        *("http://host:port/v1", "http://host:99999/v1", "http://a..b/v1", f"http://{'a' * 64}/v1"),
    ],
)
async def test_what_is_no_url(transport: Transport, url: str) -> None:
    error = await failure(transport.post(url, {}, b""))
    assert (error.kind, error.scope) == ("bad_url", "run")


async def test_secrets_in_a_url_are_not_shown(transport: Transport) -> None:
    async with Script() as server:
        url = server.url.replace("://", "://me:hunter2@")
    assert "hunter2" not in str(await failure(transport.post(url, {}, b"")))


# Connections


class HangsUp:
    """A server in a thread that hangs up when the test says so, unseen by a busy loop."""

    def __enter__(self) -> Self:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.connections: list[socket.socket] = []
        self.requests = 0
        self.refusing = False
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.hang_up()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        try:
            while connection.recv(65_536):
                self.requests += 1
                if self.refusing:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(OK)
        except OSError:
            return

    def hang_up(self) -> None:
        for connection in self.connections:
            connection.close()


async def test_a_connection_closed_between_requests_is_replaced(transport: Transport) -> None:
    with HangsUp() as server:
        for _ in range(3):
            assert (await transport.post(server.url, {}, b"{}")).body == b"ok"
        for connection in server.connections:
            connection.shutdown(socket.SHUT_RDWR)  # the loop has not seen it when it sends
        assert (await transport.post(server.url, {}, b"{}")).body == b"ok"
        assert len(server.connections) == 2


async def test_a_request_is_sent_again_once_at_most(transport: Transport) -> None:
    with HangsUp() as server:
        await transport.post(server.url, {}, b"{}")
        server.refusing = True
        error = await failure(transport.post(server.url, {}, b"{}"))
        assert (error.kind, error.scope) == ("connection", "later")
        assert server.requests == 3


async def test_a_reset_on_a_fresh_connection_is_an_error_at_once(
    transport: Transport, llm_server: LanguageModelServer
) -> None:
    endpoint = llm_server.endpoint(fault="reset")
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    error = await failure(transport.post(f"{endpoint.openai}/chat/completions", {}, body))
    assert (error.kind, error.scope) == ("connection", "later")
    assert endpoint.stats()["requests"] == 1


async def test_more_requests_at_once_than_any_pool(
    transport: Transport, llm_server: LanguageModelServer
) -> None:
    endpoint = llm_server.endpoint(lat=300)
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    url = f"{endpoint.openai}/chat/completions"
    replies = await asyncio.gather(*(transport.post(url, {}, body) for _ in range(150)))
    assert {reply.status for reply in replies} == {200}
    assert endpoint.stats()["most_running"] == 150


async def test_a_cancelled_request_leaves_the_transport_usable(transport: Transport) -> None:
    async with Script(b"", OK) as server:
        pending = asyncio.create_task(transport.post(server.url, {}, b""))
        while not server.requests:
            await asyncio.sleep(0)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert (await transport.post(server.url, {}, b"")).body == b"ok"
        assert server.connections == 2


async def test_closing_ends_what_is_in_flight_and_the_next_request_opens_anew(
    transport: Transport,
) -> None:
    async with Script(OK, b"", OK) as server:
        await transport.post(server.url, {}, b"")
        pending = asyncio.create_task(transport.post(server.url, {}, b""))
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        await transport.aclose()
        assert (await failure(pending)).kind == "connection"  # type: ignore[arg-type]
        assert (await transport.post(server.url, {}, b"")).body == b"ok"


def test_one_transport_on_two_loops(llm_server: LanguageModelServer) -> None:
    transport = Transport()
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    url = f"{llm_server.endpoint().openai}/chat/completions"
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    def ask_there() -> Reply:
        return asyncio.run_coroutine_threadsafe(transport.post(url, {}, body), other).result()

    async def ask_here() -> None:
        assert (await transport.post(url, {}, body)).status == 200
        assert ask_there().status == 200
        await transport.aclose()

    assert ask_there().status == 200
    asyncio.run(ask_here())
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.run_until_complete(asyncio.sleep(0))
    other.close()


FORK = """
import asyncio, os, sys
from chatan.providers.http import Transport

transport, url = Transport(), sys.argv[1]
body = b'{"messages": [{"role": "user", "content": "x"}]}'

async def ask():
    return (await transport.post(url, {}, body)).status

loop = asyncio.new_event_loop()
before = loop.run_until_complete(ask())
child = os.fork()
if child == 0:
    os._exit(0 if asyncio.new_event_loop().run_until_complete(ask()) == 200 else 1)
status = os.waitpid(child, 0)[1]
after = loop.run_until_complete(ask())
loop.run_until_complete(transport.aclose())
print(before, status, after)
"""

if hasattr(os, "fork"):

    def test_a_forked_child_opens_its_own_connections(llm_server: LanguageModelServer) -> None:
        url = f"{llm_server.endpoint().openai}/chat/completions"
        before = llm_server.stats()["connections"]
        command = [sys.executable, "-c", FORK, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert (done.stdout.split(), done.stderr) == (["200", "0", "200"], "")
        opened = llm_server.stats()["connections"] - before
        assert opened == 3, "one of the parent, one of the child, one to ask for the count"


async def test_a_unix_socket(tmp_path: Path) -> None:
    with language_model("--unix", str(tmp_path / "llm.sock")) as server:
        transport = Transport(unix_socket=server.unix_socket)
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        reply = await transport.post("http://localhost/v1/chat/completions", {}, body)
        await transport.aclose()
    assert reply.status == 200
    gone = await failure(transport.post("http://localhost/v1/chat/completions", {}, body))
    await transport.aclose()
    assert (gone.kind, gone.scope) == ("connection", "later")


# Proxies


async def test_the_proxy_of_the_environment(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Script(OK, OK) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "internal.example")
        assert (await transport.post("http://api.example/v1", {}, b"")).body == b"ok"
        assert proxy.requests[0][1].startswith(b"POST http://api.example/v1 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic bWU6cGFzcw==\r\n" in proxy.requests[0][1]
        direct = Transport(trust_env=False)
        async with Script(OK) as server:
            await direct.post(server.url, {}, b"")
        await direct.aclose()
        assert len(proxy.requests) == 1


async def test_a_proxy_that_is_down(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Script() as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
    error = await failure(transport.post("http://api.example/v1", {}, b""))
    assert (error.kind, error.scope) == ("connection", "later")
    assert "proxy" in str(error)


async def test_a_socks_proxy_is_refused_with_what_to_write(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:hunter2@127.0.0.1:1080")
    error = await failure(transport.post("http://api.example/v1", {}, b""))
    assert error.scope == "run"
    assert "transport='sdk'" in str(error)
    assert "hunter2" not in str(error)


HOSTS = st.sampled_from(
    [
        "localhost",
        "example.com",
        "api.example.com",
        "notexample.com",
        "127.0.0.1",
        "10.1.2.3",
        "[::1]",
    ]
)
ENTRIES = st.sampled_from(
    [
        *("", " ", "localhost", "example.com", ".example.com", "*.example.com", "EXAMPLE.COM"),
        *("127.0.0.1", "10.0.0.0/8", "10.0.0.0/33", "::1", "[::1]", "api.example.com:8080"),
        *("http://example.com", "https://example.com", "example.com:80", "com", "::1/128"),
    ]
)


@given(
    entries=st.lists(ENTRIES, max_size=3),
    scheme=st.sampled_from(["http", "https"]),
    host=HOSTS,
    port=st.sampled_from(["", ":80", ":443", ":8080"]),
    named=st.sets(st.sampled_from(["http_proxy", "https_proxy", "all_proxy"])),
)
def test_proxies_are_chosen_as_httpx_chooses_them(
    entries: list[str], scheme: str, host: str, port: str, named: set[str]
) -> None:
    from httpx2 import URL
    from httpx2._utils import URLPattern, get_environment_proxies

    environment = {name: f"http://{name.replace('_', '-')}:3128" for name in named}
    environment["no_proxy"] = ",".join(entries)
    url = f"{scheme}://{host}{port}/v1"
    with mock.patch.dict(os.environ, environment, clear=True):
        ours = Proxies.from_environment().of(url)
        found = {URLPattern(key): proxy for key, proxy in get_environment_proxies().items()}
    patterns = (pattern for pattern in sorted(found) if pattern.matches(URL(url)))
    assert ours == found.get(next(patterns, None))


# Reading what came back


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds_to_wait(headers) == seconds


def test_retry_after_a_date() -> None:
    wait = seconds_to_wait({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    assert wait == pytest.approx(3600, abs=60)


@given(st.text() | st.floats().map(str) | st.datetimes().map(str))
def test_retry_after_anything(text: str) -> None:
    wait = seconds_to_wait({"retry-after": text})
    assert wait is None or (wait >= 0 and math.isfinite(wait))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON, st.booleans())
def test_json_comes_back_as_it_was(value: Any, escaped: bool) -> None:
    assert decode_json(json.dumps(value, ensure_ascii=escaped).encode()) == (value, False)


HALF = st.text(st.characters(categories=["Cs"]), max_size=2)


@given(before=st.text(), half=HALF, after=st.text())
@example(before="", half="\ud83d\ude00", after="")
def test_half_characters_are_replaced_and_flagged(before: str, half: str, after: str) -> None:
    text = before + half + after
    body = json.dumps({"key": [text]}).encode()
    value, replaced = decode_json(body)
    whole = value["key"][0]
    assert replaced == ("�" in whole and whole != text)
    whole.encode()  # any encoding can store it
    assert whole.startswith(before)
    assert whole.endswith(after)
    if len(half) == 1:
        assert whole == f"{before}�{after}"


@given(st.binary())
@example(b"[" * 200_000)
@example(b'"\xff"')
@example(b"{")
@example(b"")
@example(b'{"a": NaN}')
def test_any_bytes_are_json_or_a_broken_answer(body: bytes) -> None:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        with pytest.raises(ProviderError) as caught:
            decode_json(body)
        assert (caught.value.kind, caught.value.scope) == ("broken_answer", "later")
        assert len(str(caught.value)) < 600
    else:
        decode_json(body)


def test_values_that_only_some_servers_send() -> None:
    assert decode_json(b"\xef\xbb\xbf[1]") == ([1], False)
    assert decode_json(b'{"logprob": -Infinity}') == ({"logprob": -math.inf}, False)
    assert decode_json(b'["\\u0000"]') == (["\0"], False)


# What can be sent


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"X-A": "b\r\nX-C: d"}, ValueError),
        ({"X-A": "\0"}, ValueError),
        ({"Authorization": "Bearer sk-“quoted”"}, ValueError),
        ({"X A": "b"}, ValueError),
        ({"": "b"}, ValueError),
        ({"X-A": 3}, TypeError),
        ({3: "b"}, ValueError),
    ],
)
def test_headers_that_cannot_be_sent(headers: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        checked_headers(headers)
    assert "quoted" not in str(caught.value)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii"), max_size=5), st.text(max_size=5), max_size=2
    )
)
def test_headers_that_are_accepted_can_be_sent(headers: dict[str, str]) -> None:
    try:
        checked_headers(headers)
    except ValueError:
        return
    import aiohttp.http_writer
    from multidict import CIMultiDict

    aiohttp.http_writer._serialize_headers("POST / HTTP/1.1", CIMultiDict(headers))


def test_importing_it_is_light() -> None:
    heavy = "aiohttp", "openai", "anthropic", "httpx2", "pydantic", "yarl"
    code = (
        "import sys; import chatan.providers.http, chatan.providers.openai; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
