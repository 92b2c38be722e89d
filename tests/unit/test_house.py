"""What holds for the whole house: light imports, rooms that look down only, examples that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import chatan

ROOT = Path(chatan.__file__).parent
HEAVY = [
    "openai", "anthropic", "aiohttp", "pydantic", "pandas", "pyarrow", "torch", "transformers",
    "datasets", "plotly", "IPython", "ipywidgets", "anywidget", "numpy", "scipy", "xllamacpp",
    "jsonschema_rs", "tqdm", "httpx", "requests",
]  # fmt: skip

FLOORS = {
    "schema": 1, "providers": 1,
    "engine": 2,
    "generator": 3, "sheet": 3, "export": 3, "export_text": 3,
    "source": 4,
    "arguments": 5,
    "progress": 6,
    "dataset": 7, "__init__": 8,
    "cli": 9, "__main__": 10,
}  # fmt: skip
"""The floor of each room; a module imports from lower floors, or from its own room."""


def imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after ``code``."""
    script = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_chatan_loads_nothing_heavy() -> None:
    loaded = imported_by("import chatan")
    assert "chatan" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


def test_making_a_generator_and_a_prompt_loads_no_sdk() -> None:
    code = """
import chatan
for kind in ("openai", "anthropic"):
    gen = chatan.generator(kind, "sk-key-123456")
    chatan.dataset({"a": chatan.sample.choice(["x"]), "b": gen("{a}")})
"""
    assert imported_by(code).isdisjoint({"openai", "anthropic", "aiohttp", "pydantic"})


def modules() -> list[str]:
    found = [name for _, name, _ in pkgutil.walk_packages(chatan.__path__, "chatan.")]
    return [name for name in found if name != "chatan.__main__"]


def room_of(module: str) -> str:
    return module.removeprefix("chatan").lstrip(".").split(".")[0] or "__init__"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_rooms_import_from_lower_floors_only(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    room = parts[0]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "chatan":
                names = [f"chatan.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] != "chatan":
                continue
            target = room_of(name)
            if target not in FLOORS:  # a name that the package itself exports
                target = "__init__"
            below = FLOORS[target] < FLOORS[room]
            beside = {room, target} <= {"export", "export_text"}
            assert below or target == room or beside, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_rooms_are_small_and_say_what_they_know(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert (ast.get_docstring(ast.parse(text)) or "").strip()


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module)
    assert results.failed == 0


@pytest.mark.parametrize("name", chatan.__all__)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(chatan, name)
    assert isinstance(value, str) or (value.__doc__ or "").strip()


def test_public_names_survive_imports_of_modules_of_the_same_name() -> None:
    code = """
import chatan.dataset, chatan.generator, chatan
assert callable(chatan.dataset) and callable(chatan.generator)
from chatan.generator import generator
assert chatan.generator is generator
"""
    assert "chatan" in imported_by(code)
