"""The nearest right name to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], cutoff: float = 0.75) -> str | None:
    """The name most like ``name``, if one is like it at all; letter case and spaces count little.

    >>> nearest("Quesiton", ["question", "answer"])
    'question'
    """
    folded = {_fold(candidate): candidate for candidate in names}
    matches = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """``"; did you mean 'question'?"``, or nothing where no name is near."""
    found = nearest(name, names, cutoff=0.6)
    return f"; did you mean {found!r}?" if found else ""


def _fold(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ").strip()
