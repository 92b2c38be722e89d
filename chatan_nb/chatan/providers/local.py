"""A model on this machine that needs no key: the embedded one, or any GGUF file."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from chatan.providers import llamacpp, weights
from chatan.providers.base import AnswerFormat, Call, Completion, Provider, ProviderError, Request
from chatan.providers.body import body_start, whole_body
from chatan.providers.http import Reply, Timeouts, Transport
from chatan.providers.llamacpp import LoadError, Server, ServerHere, Settings
from chatan.providers.openai_errors import error_of
from chatan.providers.openai_wire import completion_of, is_error
from chatan.providers.parameters import SAMPLING, Range, checked
from chatan.providers.settings import digest

EMBEDDED = "SmolLM2-135M-Instruct"

_URL = "http://llama.cpp/v1/chat/completions"  # the host is a name for messages: a socket is asked
_HEADERS = {"Content-Type": "application/json"}
_TIMEOUTS = Timeouts(total=3600.0)  # a slow machine is no fault
_MAX_TOKENS = 512
_RANGES = {
    **SAMPLING,
    "typical_p": Range(0, 1),
    "repeat_penalty": Range(0.01, 100),
    "presence_penalty": Range(-2, 2),
    "frequency_penalty": Range(-2, 2),
}


class LocalProvider(Provider):
    """A model run by llama.cpp on this machine: no key, no port, no download while it runs.

    The embedded model is SmolLM2-135M-Instruct, which ``chatan model fetch`` puts on this
    machine (93 MB; Apache-2.0, by the Hugging Face TB research team). It is small enough to
    run anywhere and good enough to try things out, not to make data for use.

    The model is loaded at the first call, in a process of its own, and shared by all
    generators with the same settings until this process ends.

    Parameters
    ----------
    model
        The path of a GGUF file; the embedded model if not given.
    threads
        Threads that compute; one less than there are cores by default.
    context
        Tokens of a prompt and its answer together. Memory is taken for ``context`` times
        ``slots`` of them: 0.4 GB for the embedded model.
    slots
        Requests that are answered at the same time; 4 by default.

    Notes
    -----
    Parameters of ``generator`` and of prompts: ``temperature``, ``top_p``, ``top_k``,
    ``min_p``, ``typical_p``, ``repeat_penalty``, ``presence_penalty``, ``frequency_penalty``,
    ``max_tokens`` (512, so that a small model that does not find its end has one), ``stop``,
    ``seed``. Those that are not given are llama.cpp's own.

    Each cell is sampled with a seed of its own, so the same dataset gives the same text again:
    with the embedded model on a CPU also when the requests meet in other combinations. Other
    quantisations and GPUs may round otherwise in other batches; ``slots=1`` leaves no batches.

    >>> provider = LocalProvider(slots=2)
    >>> provider.default_model, provider.capacity
    ('SmolLM2-135M-Instruct', (2, 2))
    """

    kind: ClassVar[str] = "local"
    options: ClassVar[frozenset[str]] = frozenset({"threads", "context", "slots"})

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        threads: int | None = None,
        context: int = 4096,
        slots: int | None = None,
    ) -> None:
        whole = Range(1, 1 << 24, whole=True)
        if threads is None:  # llama.cpp's threads wait for each other busily
            threads = max(1, (os.cpu_count() or 2) - 1)
        self._threads = whole.checked("threads", threads)
        self._context = whole.checked("context", context)
        self._slots = whole.checked("slots", 4 if slots is None else slots)
        self.default_model = EMBEDDED if model is None else str(model)
        self.capacity = (self._slots, self._slots)
        self.identity = digest(self.kind, repr((self._threads, self._context, self._slots)))
        self._transports: dict[Server, Transport | _Direct] = {}

    def prepare(
        self, model: str, parameters: Mapping[str, Any], answer: AnswerFormat | None
    ) -> Call:
        """Check the parameters; raises ``ValueError``, also for a file that is not there."""
        model = str(model)
        if model != EMBEDDED and not Path(model).expanduser().is_file():
            raise ValueError(
                f"model={model!r} is no file: write the path of a .gguf file, or leave model out "
                f"for the embedded {EMBEDDED}"
            )
        given = checked(parameters, _RANGES, where="local")
        fields = {"model": Path(model).name, "max_tokens": _MAX_TOKENS, **given}
        if answer is not None:
            form = {"name": answer.name, "schema": answer.schema, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": form}
        return Call(model, given, answer, body_start(fields))

    async def complete(self, request: Request) -> Completion:
        """Ask once. A cancelled call frees its slot."""
        call = request.call
        fields: dict[str, Any] = {"messages": request.messages}
        if "seed" not in call.parameters:
            fields["seed"] = request.draw % 2**31
        body = whole_body(call.body, fields)
        settings = self._settings(call.model)
        started = time.perf_counter()
        server = await self._server(settings)
        try:
            reply = await self._transport(server).post(_URL, _HEADERS, body)
        except ProviderError as error:
            if error.kind == "connection":
                llamacpp.forget_dead(settings, server)
            raise
        if is_error(reply):
            sent = call.parameters.keys() | ({"response_format"} if call.answer else set())
            raise error_of(reply, url=_URL, model=call.model, sent=sent, secrets=())
        return completion_of(reply, time.perf_counter() - started)

    async def aclose(self) -> None:
        """Close the connections; the model stays loaded for others, and for the next call."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            await transport.aclose()

    def model_identity(self, model: str) -> str:
        """The SHA-256 of the model's file. Blocks while a large one is read, once."""
        if model == EMBEDDED:
            return weights.SHA256
        file = Path(model).expanduser().resolve()
        return _digest(file, _stamp(file))

    def _settings(self, model: str) -> Settings:
        file = weights.find() if model == EMBEDDED else Path(model).expanduser().resolve()
        if file is None:
            raise _unusable("the embedded model is not on this machine; run: chatan model fetch")
        try:
            stamp = _stamp(file)
        except OSError as error:
            raise _unusable(f"the model cannot be read: {error}") from None
        return Settings(str(file), self._threads, self._context, self._slots, stamp)

    async def _server(self, settings: Settings) -> Server:
        if settings in llamacpp.running:
            return llamacpp.running[settings]
        if importlib.util.find_spec("xllamacpp") is None:
            raise _unusable("local models need one more package: pip install 'chatan-nb[local]'")
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(_loader(), llamacpp.start, settings)
        except (LoadError, OSError) as error:
            raise _unusable(f"llama.cpp cannot load {settings.file}: {error}") from error

    def _transport(self, server: Server) -> Transport | _Direct:
        if server not in self._transports:
            self._transports[server] = (
                _Direct(server, self._slots)
                if isinstance(server, ServerHere)
                else Transport(timeouts=_TIMEOUTS, unix_socket=server.socket, trust_env=False)
            )
        return self._transports[server]


class _Direct:
    """A transport to a server in this process: a thread for each of its slots."""

    def __init__(self, server: ServerHere, slots: int) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(slots, "chatan-llamacpp")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:  # noqa: ARG002 - as Transport.post
        loop = asyncio.get_running_loop()
        status, answer = await loop.run_in_executor(self._threads, self._server.answer, body)
        return Reply(status, {}, answer)

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False)


def _unusable(message: str) -> ProviderError:
    return ProviderError(message, kind="unknown_model", scope="run")


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache
def _digest(file: Path, stamp: tuple[int, int]) -> str:  # noqa: ARG001 - for the cache
    return weights.digest(file)


@lru_cache
def _loader() -> ThreadPoolExecutor:
    """The one thread that starts servers: those who want the same one wait for it together."""
    return ThreadPoolExecutor(1, "chatan-loader")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loader.cache_clear)  # a fork leaves its thread behind
