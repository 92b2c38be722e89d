"""llama.cpp's own server on a port of this machine, as users run it: a real OpenAI endpoint.

``python tests/servers/llamacpp.py MODEL`` prints its base URL and serves until standard input
is closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def endpoint(model: Path) -> Iterator[str]:
    """The base URL of a server, in a process of its own, for the GGUF file ``model``."""
    command = [sys.executable, "-P", __file__, str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
        process.stdin.close()
        process.wait()


def main(model: str) -> None:
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = model
    options.n_parallel = 2
    options.n_ctx = 2 * 1024
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.verbosity = 0
    options.offline = True
    options.ui = False
    options.warmup = False
    server = xllamacpp.Server(options)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
