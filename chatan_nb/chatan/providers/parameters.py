"""Checking the parameters of models on this machine, which no service would check for us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers a parameter may be, ends included; ``whole`` for those without fractions."""

    low: float = float("-inf")
    high: float = float("inf")
    whole: bool = False

    def checked(self, name: str, value: Any) -> Any:
        """``value`` as a plain number; raises ``ValueError`` where it is out of range."""
        right = isinstance(value, Integral if self.whole else Real)
        if right and not isinstance(value, bool) and self.low <= value <= self.high:
            return int(value) if self.whole else float(value)
        what = "a whole number" if self.whole else "a number"
        limits = [
            f"{word} {limit:g}"
            for word, limit in (("from", self.low), ("to", self.high))
            if abs(limit) != float("inf")
        ]
        raise ValueError(f"{name}={value!r}: write {' '.join([what, *limits])}")


SAMPLING: Mapping[str, Range] = {
    "temperature": Range(0),
    "top_p": Range(0, 1),
    "top_k": Range(0, whole=True),
    "min_p": Range(0, 1),
    "max_tokens": Range(1, whole=True),
    "seed": Range(0, 2**63 - 1, whole=True),
}
"""What every local model understands; the rest has a name of its own in each library."""

_ELSEWHERE = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "repetition_penalty": "repeat_penalty",
    "stop_sequences": "stop",
    "stop_strings": "stop",
    "response_format": "schema",
}
"""Names that other services and libraries use for the same thing."""


def checked(
    parameters: Mapping[str, Any], ranges: Mapping[str, Range], *, where: str
) -> dict[str, Any]:
    """The parameters as plain numbers and a list of ``stop`` strings, without those that are None.

    Raises ``ValueError`` naming the parameter and what to write instead.

    >>> checked({"temperature": 1, "stop": "END"}, SAMPLING, where="local")
    {'temperature': 1.0, 'stop': ['END']}
    """
    result: dict[str, Any] = {}
    for name, value in parameters.items():
        if name != "stop" and name not in ranges:
            raise _unknown(name, [*ranges, "stop"], where)
        if value is not None:
            result[name] = _stop(value) if name == "stop" else ranges[name].checked(name, value)
    return result


def _unknown(name: str, known: Sequence[str], where: str) -> ValueError:
    elsewhere = _ELSEWHERE.get(name)
    near = [elsewhere] if elsewhere in (*known, "schema") else get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(
        f"{where} has no parameter {name!r}: {meant}It takes {', '.join(sorted(known))}"
    )


def _stop(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and all(isinstance(each, str) and each for each in texts):
        return list(texts)
    raise ValueError(f"stop={value!r}: write a text that is not empty, or a list of such texts")
