"""What the settings of a service mean: base URLs, headers, keys and the names of parameters."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from chatan.providers.base import ProviderError, redact
from chatan.providers.http import Timeouts

_SECRET_NAMES = ("key", "token", "auth", "secret", "cookie")
_SHORTENED = re.compile(r"[\w-]*\*{3,}[\w*-]*")  # sk-ab***yz: a key, as services print it
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def checked_base_url(base_url: str, *, route: str, example: str) -> str:
    """``base_url`` without spaces and slashes at its ends.

    Raises ``ProviderError`` ("bad_url", run) where no request could be sent to it: no http(s)
    URL, or one that already ends in ``route``, which the provider adds.

    >>> checked_base_url(" http://localhost:8000/v1/ ", route="/chat/completions", example="")
    'http://localhost:8000/v1'
    """
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where it is no number
    except ValueError:
        usable = False
    if not usable:
        raise _bad_url(f"base_url={base_url!r} is no http(s) URL: write one like {example!r}")
    if parts.username or parts.password:
        # not shown: the password stands in it
        raise _bad_url("base_url holds a user's name: send an Authorization in extra_headers")
    if parts.query or parts.fragment:
        raise _bad_url(f"base_url={base_url!r} has a query: write it without, like {example!r}")
    if parts.path.endswith(route):
        right = url.removesuffix(route)
        raise _bad_url(f"base_url={base_url!r} ends in {route!r}, which is added: write {right!r}")
    return url


def _bad_url(message: str) -> ProviderError:
    return ProviderError(message, kind="bad_url", scope="run")


def checked_timeouts(timeout: float | None) -> Timeouts:
    """The time-outs for ``timeout`` seconds in all; ``ValueError`` where that is no such number.

    >>> checked_timeouts(30)
    Timeouts(connect=10.0, total=30)
    """
    if timeout is None:
        return Timeouts()
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
    return Timeouts(total=timeout)


class Headers(dict[str, str]):
    """Headers that show their names alone: what prints variables must not print a key."""

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


def merged_headers(*layers: Mapping[str, str]) -> Headers:
    """One set of headers; later layers win, whatever the case of a name.

    >>> merged_headers({"Accept": "a", "X-One": "1"}, {"accept": "b"})
    Headers(X-One, accept)
    """
    headers: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            headers.pop(name.lower(), None)
            headers[name.lower()] = (name, value)
    return Headers(headers.values())


def environment_headers(variable: str) -> dict[str, str]:
    """The headers of a variable like OPENAI_CUSTOM_HEADERS: one ``Name: value`` a line."""
    pairs = (line.partition(":") for line in os.environ.get(variable, "").split("\n"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def secret_values(headers: Mapping[str, str]) -> frozenset[str]:
    """What must not be shown of the headers.

    >>> secret_values({"Authorization": "Bearer sk-example", "Accept": "application/json"})
    frozenset({'sk-example'})
    """
    return frozenset(
        value.removeprefix("Bearer ")
        for name, value in headers.items()
        if any(part in name.lower() for part in _SECRET_NAMES)
    )


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """``text`` without the secrets, whole or shortened with asterisks, dots or an ellipsis.

    >>> without_secrets("wrong key sk-exa...mple", ["sk-example"])
    'wrong key ***'
    """
    text = redact(text, *secrets)
    for secret in secrets:
        if len(secret) >= 8:
            shortened = rf"{re.escape(secret[:3])}[\w-]*(\*+|\.{{3,}}|…)[\w*-]*"
            text = re.sub(shortened, "***", text)
    return _SHORTENED.sub("***", text)


def digest(*parts: str | None) -> str:
    """A short digest: equal for equal parts, and of no use to find them.

    >>> digest("https://api.openai.com/v1", "sk-1") == digest("https://api.openai.com/v1", "sk-2")
    False
    """
    return hashlib.sha256("\0".join(part or "" for part in parts).encode()).hexdigest()[:16]


def unknown_parameter(name: str, known: Iterable[str]) -> ValueError:
    """The error for a parameter that the service does not have.

    >>> print(unknown_parameter("max_token", ["max_tokens", "stop"]))
    unknown parameter 'max_token': did you mean 'max_tokens'? (extra_body={'max_token': ...} sends \
it all the same)
    """
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? (" if near else ""
    end = ")" if near else ""
    return ValueError(
        f"unknown parameter {name!r}: {meant}extra_body={{{name!r}: ...}} "
        f"sends it all the same{end}"
    )


def one_line(text: str, limit: int = 300) -> str:
    r"""Text of a service as one readable line: no tags, no line ends, no control characters.

    >>> one_line("<html><b>502</b>\nBad   Gateway</html>")
    '502 Bad Gateway'
    """
    text = _TAG.sub(" ", text[: 20 * limit]) if text.lstrip().startswith("<") else text
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
