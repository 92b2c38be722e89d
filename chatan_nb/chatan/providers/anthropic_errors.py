"""Anthropic's ways to say no, sorted: what went wrong, whom it concerns and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chatan.providers.base import ErrorKind, ProviderError, Scope
from chatan.providers.http import Reply, decode_json, retry_after
from chatan.providers.settings import one_line, without_secrets

_LATER: dict[str, ErrorKind] = {
    "rate_limit_error": "rate_limit",
    "overloaded_error": "server",
    "api_error": "server",
    "timeout_error": "timeout",
    "conflict_error": "server",
}
_RUN: dict[str, tuple[ErrorKind, str]] = {
    "authentication_error": ("authentication", "check the key: pass api_key=..."),
    "billing_error": ("quota", "check the billing of the account"),
    "permission_error": ("permission", "the key may not do this: use another key or model"),
}
_STATUS_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_TOO_LONG = re.compile(
    r"prompt is too long|exceeds? (the )?context|context (window|limit)|maximum context length"
    r"|too many (input )?tokens",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"credit balance|usage limit|spend(ing)? limit", re.IGNORECASE)
_REFUSED = re.compile(r"content filter|blocked by", re.IGNORECASE)
_ACCOUNT = ("organization_", "workspace_", "user_profile_", "cmek_")
_PLACE = re.compile(r"\W*([a-z_]+)[\w.\[\]]*:")
_QUOTED = re.compile(r"[`'\"]([a-z_]+)[\w.\[\]]*[`'\"]")


def error_of(
    reply: Reply, *, url: str, model: str, sent: Collection[str], secrets: Collection[str]
) -> ProviderError:
    """The sorted error for a reply that is no message.

    ``sent`` are the names of the parameters that the request held, ``secrets`` what must not
    stand in the message.
    """
    said = _said(reply)
    found, scope, advice = _sort(reply.status, said, url=url, model=model, sent=sent)
    if said.kind == "authentication_error" and not secrets:
        advice = "no key was sent: pass api_key=...; ANTHROPIC_API_KEY goes to Anthropic alone"
    message = f"{urlsplit(url).hostname} answered {reply.status}: {said.words or said.kind}"
    return ProviderError(
        without_secrets(f"{message} ({advice})" if advice else message, secrets),
        kind=found,
        scope=scope,
        status=reply.status,
        retry_after=retry_after(reply.headers) if scope == "later" else None,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """An error in the service's terms: its type, the code of its cause and its words."""

    kind: str
    code: str
    words: str


def _said(reply: Reply) -> _Said:
    """What an error says; its type by the status where it names none."""
    try:
        value: Any = decode_json(reply.body)[0]
    except ProviderError:
        value = reply.body[:10_000].decode(errors="replace")
    error = value.get("error", value) if isinstance(value, dict) else value
    kind: Any = ""
    code: Any = ""
    words = error
    if isinstance(error, dict):
        kind = error.get("type")
        details = error.get("details")
        code = details.get("error_code") if isinstance(details, dict) else ""
        words = error.get("message") or error.get("detail") or error
    by_status = "api_error" if reply.status >= 500 else "invalid_request_error"
    if not isinstance(kind, str) or kind not in {*_LATER, *_RUN, *_STATUS_TYPES.values()}:
        kind = by_status
    if kind in ("invalid_request_error", "api_error"):
        kind = _STATUS_TYPES.get(reply.status, by_status)  # the status may know better
    return _Said(kind, code if isinstance(code, str) else "", one_line(str(words)))


def _sort(
    status: int, said: _Said, *, url: str, model: str, sent: Collection[str]
) -> tuple[ErrorKind, Scope, str]:
    """Kind, scope, and what to do."""
    kind, code, words = said.kind, said.code, said.words
    if _QUOTA.search(words) or "spend_limit" in code:
        return "quota", "run", "check the billing and the limits of the account"
    if status == 407:
        return "authentication", "run", "name and password: http://name:password@proxy"
    if kind in _RUN:
        found, advice = _RUN[kind]
        return found, "run", advice
    if kind in _LATER:
        return _LATER[kind], "later", ""
    if kind == "not_found_error" and (model in words or "model" in words):
        return "unknown_model", "run", "check the name of the model"
    if kind == "not_found_error" or status == 405 or 300 <= status < 400:
        return "bad_url", "run", f"asked {url}; base_url is what stands before /v1/messages"
    if kind == "request_too_large" or _TOO_LONG.search(words):
        return "too_long", "cell", ""
    if code.startswith(_ACCOUNT):
        return "permission", "run", ""
    if _REFUSED.search(words):
        return "refused", "cell", ""
    # "messages.0.content: ..." is about the text, whatever it quotes
    place = _PLACE.match(words)
    named = {place[1]} if place else set(_QUOTED.findall(words))
    if "model" in named:
        return "unknown_model", "run", "check the name of the model"
    if named & set(sent):
        return "bad_parameter", "run", "leave that parameter out, or change it"
    return "bad_request", "cell", ""
