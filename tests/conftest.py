"""Fixtures that many tests share."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import tiny_model as tiny
from servers import LanguageModelServer, language_model

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job: tests that interrupt processes need them to listen
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("chatan", deadline=None)  # machines are slow at times
settings.load_profile("chatan")


@pytest.fixture(scope="session")
def llm_server() -> Iterator[LanguageModelServer]:
    """A language model service in its own process; ``llm_server.endpoint(...)`` for each test."""
    with language_model() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files: a certificate for 127.0.0.1 that nobody signed but itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    files = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(
        [*command.split(), *names, "-out", files[0], "-keyout", files[1]],
        check=True,
        capture_output=True,
    )
    return files


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that this machine's user has set for services reaches the test."""
    for name in list(os.environ):
        if name.upper().startswith(("OPENAI_", "ANTHROPIC_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.fixture
def few_certificates(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One certificate to trust: the system's take each client of an SDK 70 ms to read."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])


@pytest.fixture(params=["lean", "sdk"])
def transport(request: pytest.FixtureRequest, few_certificates: None) -> str:
    """Each way of sending in turn, for what must be the same over all of them."""
    return str(request.param)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The file of the embedded model, fetched where it is not yet on this machine."""
    from chatan.providers import weights

    return weights.fetch()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small transformers model with random weights."""
    return tiny.make(tmp_path_factory.mktemp("tiny_model"))
