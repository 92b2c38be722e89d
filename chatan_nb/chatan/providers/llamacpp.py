"""A llama.cpp server for one GGUF file: how it is started, shared and stopped.

The server is ``xllamacpp``'s. It has a process of its own, for three reasons: loading a model
holds the interpreter's lock from the first byte to the last (and with it the event loop and
the notebook), a fault in native code ends the process it happens in, and a forked copy of
llama.cpp hangs at its end. It listens on a Unix socket in a private folder and opens no port.
It lives until the last process that holds its standard input has ended, however that ends.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

_READY = "listening on "
_LONGEST_SOCKET = 100  # a Unix socket's path may have 103 bytes on macOS, 107 on Linux


@dataclass(frozen=True, slots=True)
class Settings:
    """A model's file and how it is run; servers of equal settings are one.

    ``context`` is in tokens, for each of the ``slots`` requests that are answered at a time.
    ``stamp`` is the file's size and time of change: a file that was replaced is another model.
    """

    file: str
    threads: int
    context: int
    slots: int
    stamp: tuple[int, int] = (0, 0)


class LoadError(Exception):
    """llama.cpp does not take the file; the message is its own reason."""


class ServerProcess:
    """A server in a process of its own, listening on ``socket``. Blocks until it does."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file, by this interpreter
            # -P: this folder must not come before the standard library
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for the model
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        said = []
        with suppress(BrokenPipeError):
            hold = cast("IO[str]", self._process.stdin)
            hold.write(json.dumps([asdict(settings), list(map(str, sys.path))]) + "\n")
            hold.flush()
        with cast("IO[str]", self._process.stdout) as lines:
            for line in lines:
                if line.startswith(_READY):
                    self.socket = line.removeprefix(_READY).rstrip("\n")
                    return
                said.append(line.strip())
        self.stop()
        raise LoadError(_reason(said) or f"its process ended ({self._process.returncode})")

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def answers(self) -> bool:
        """Whether something listens there still."""
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(self.socket)
            return True
        return False

    def stop(self) -> None:
        """Let go of the model; its process ends when no forked copy of this one holds it."""
        with suppress(OSError):
            cast("IO[str]", self._process.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)


class ServerHere:
    """A server in this process, where there are no Unix sockets or no ``python`` to start.

    Loading it stops every thread of Python for that long, and a call that was begun runs to
    its end. It listens on a socket file too, since llama.cpp insists; nobody connects to it.
    Windows needs this way; it has been tried on Linux alone.
    """

    socket = None

    def __init__(self, settings: Settings) -> None:
        self._folder = _private_folder()
        try:
            self._server = _serve(settings, _socket_in(self._folder), verbosity=0)
        except RuntimeError as error:
            self.stop()
            raise LoadError(str(error)) from None

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """The HTTP status and body of a chat completion."""
        try:
            answer = self._server.handle_chat_completions(json.loads(body))
        except ValueError as error:
            answer = {"error": {"code": 400, "message": str(error)}}
        return answer.get("error", {}).get("code", 200), json.dumps(answer).encode()

    def answers(self) -> bool:
        """Whether it is there still; it cannot end on its own."""
        return True

    def stop(self) -> None:
        """Free the model."""
        self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)


Server = ServerProcess | ServerHere

running: dict[Settings, Server] = {}
"""The servers of this process; a forked child uses those of its parent."""


def start(settings: Settings) -> Server:
    """The server with these settings, started if there is none. Blocks; from one thread only.

    Raises ``LoadError`` where llama.cpp does not take the file.
    """
    if settings not in running:
        alone = bool(sys.executable) and not getattr(sys, "frozen", False)
        apart = alone and hasattr(socket, "AF_UNIX")
        running[settings] = ServerProcess(settings) if apart else ServerHere(settings)
    return running[settings]


def forget_dead(settings: Settings, server: Server) -> None:
    """Let the next ``start`` replace ``server``, if its process has ended."""
    if running.get(settings) is server and not server.answers():
        del running[settings]
        server.stop()
        if server.socket:  # what ended it left it no time to clean up
            shutil.rmtree(Path(server.socket).parent, ignore_errors=True)


@atexit.register
def _stop_all() -> None:
    for server in [*running.values()]:  # a thread may still be starting one
        server.stop()


def _reason(said: list[str]) -> str:
    """The first error in what llama.cpp said, or else its last word."""
    errors = [parts[1] for line in said if len(parts := re.split(r"^[\d.]+ E +", line)) == 2]
    return errors[0] if errors else next((line for line in reversed(said) if line), "")


def _private_folder() -> str:
    folder = tempfile.mkdtemp(prefix="chatan-")  # readable by its owner alone
    if len(os.fsencode(_socket_in(folder))) > _LONGEST_SOCKET:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="chatan-", dir="/tmp")
    return folder


def _socket_in(folder: str) -> str:
    return str(Path(folder) / "llama.sock")  # the suffix tells llama.cpp that it is no host


def _serve(settings: Settings, address: str, *, verbosity: int) -> Any:
    """Load the model and listen. At verbosity 1 errors go to standard error, at 0 nothing does."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = settings.file
    options.hostnames = [address]
    options.n_parallel = settings.slots
    options.n_ctx = settings.context * settings.slots  # llama.cpp divides it among the slots
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = settings.threads
    options.offline = True
    options.verbosity = verbosity
    options.ui = False
    options.endpoint_slots = False
    options.warmup = False
    options.cache_ram_mib = 0  # or prompts of the past fill up to 8 GiB
    options.model_alias = {Path(settings.file).name}
    return xllamacpp.Server(options)


def _main() -> None:
    """The server's process: load, say where, and stay until standard input is closed."""
    settings, sys.path[:] = json.loads(sys.stdin.readline())
    folder = _private_folder()
    try:
        address = _socket_in(folder)
        _server = _serve(Settings(**settings), address, verbosity=1)
        print(_READY + address, flush=True)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.dup2(silence, sys.stderr.fileno())
        sys.stdin.read()
    except Exception as error:
        print(error, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)  # llama.cpp's threads are not waited for


if __name__ == "__main__":
    _main()
