"""Servers that tests run in processes of their own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Endpoint:
    """A path prefix of the server with options of its own, and its own records and counts."""

    url: str

    @property
    def openai(self) -> str:
        """The base URL for clients of OpenAI's interface."""
        return f"{self.url}/v1"

    @property
    def anthropic(self) -> str:
        """The base URL for clients of Anthropic's interface."""
        return self.url

    def requests(self) -> list[dict[str, Any]]:
        """What was asked so far: dicts of method, path, headers (names in lower case), body."""
        return self._get("requests")

    def stats(self) -> dict[str, int]:
        """Counts: requests, most_running, connections, and answers by status."""
        return self._get("stats")

    def reset(self) -> None:
        self._get("reset")

    def _get(self, name: str) -> Any:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self.url}/{name}", timeout=30) as reply:
            return json.load(reply)


@dataclass(frozen=True)
class LanguageModelServer(Endpoint):
    """The running server; ``unix_socket`` is its path where it serves one."""

    unix_socket: str | None = None

    def endpoint(self, **options: Any) -> Endpoint:
        """A fresh endpoint: ``server.endpoint(lat=100, fault="429", times=1).openai``."""
        named = {"id": f"{os.getpid()}.{next(_NUMBERS)}", **options}
        prefix = ",".join(f"{name}={value}" for name, value in named.items())
        return Endpoint(f"{self.url}/{prefix}")


@contextmanager
def language_model(*arguments: str) -> Iterator[LanguageModelServer]:
    """The server of ``llm.py`` in its own process; ``arguments`` are those of its command line."""
    command = [sys.executable, str(Path(__file__).with_name("llm.py")), "--until-eof", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        if "://" in address:
            yield LanguageModelServer(address)
        else:
            yield LanguageModelServer("http://localhost", address)
        process.stdin.close()
        process.wait()
