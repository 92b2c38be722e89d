"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest

from chatan.engine import lanes


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds between attempts where a user would wait seconds."""
    monkeypatch.setattr(lanes, "FIRST_DELAY", 0.005)
