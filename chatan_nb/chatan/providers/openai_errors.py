"""How OpenAI and servers like it say no, sorted: what it is, whom it concerns and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from chatan.providers.base import ErrorKind, ProviderError, Scope
from chatan.providers.http import Reply, decode_json, retry_after
from chatan.providers.settings import one_line, without_secrets

_LATER: dict[int, ErrorKind] = {
    408: "timeout",
    409: "server",
    425: "server",
    429: "rate_limit",
    504: "timeout",
    524: "timeout",
}
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_CONTEXT = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_FILTER = {"content_filter", "content_policy_violation", "invalid_prompt"}
_PARAMETER = {
    *("unsupported_parameter", "unknown_parameter", "unsupported_value", "invalid_type"),
    *("invalid_json_schema", "missing_required_parameter"),
}
_TOO_LONG = re.compile(
    r"(maximum|available|exceeds?( the)?|model'?s) context|context (length|size|window) (of|is|exc)"
    r"|prompt is too long|too many (input |prompt )?tokens|(input|request) (is )?too (large|long)",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content (management )?policy|content filter|flagged", re.IGNORECASE)
_MODEL = re.compile(r"\bmodel\b|no endpoints found", re.IGNORECASE)
_SCHEMA = re.compile(r"response_format|json.?schema|grammar", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Said:
    """The parts of an error body, wherever the server put them."""

    words: str
    codes: frozenset[str]  # code and type
    parameter: str  # the parameter it names, without what is inside of it
    status: int  # the body's own, for errors inside a 200
    location: str = ""


def error_of(
    reply: Reply, *, url: str, model: str, sent: Collection[str], secrets: Collection[str]
) -> ProviderError:
    """The sorted error for a reply that is no completion.

    ``sent`` are the names of the fields that the request held, ``secrets`` what must not
    stand in the message.
    """
    said = _read(reply)
    keyed = any(secrets)
    kind, scope, advice = _sort(said, url=url, model=model, sent=sent, keyed=keyed)
    server = urlsplit(url).hostname
    message = f"{server} answered {said.status}: {said.words or 'nothing'}"
    return ProviderError(
        without_secrets(f"{message} ({advice})" if advice else message, secrets),
        kind=kind,
        scope=scope,
        status=said.status,
        retry_after=retry_after(reply.headers) if scope == "later" else None,
    )


def _read(reply: Reply) -> _Said:
    try:
        value = decode_json(reply.body)[0]
    except ProviderError:
        value = reply.body[:10_000].decode(errors="replace")
    error = value.get("error", value) if isinstance(value, dict) else value
    status, location = reply.status, reply.headers.get("location", "")
    if not isinstance(error, dict):
        return _Said(one_line(str(error)), frozenset(), "", status, location)
    code, detail = error.get("code"), error.get("detail")
    if status == 200:
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
    codes = frozenset(part for part in (code, error.get("type")) if isinstance(part, str))
    parameter = error.get("param")
    words = error.get("message") or detail or error
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):  # as FastAPI says it
        steps = detail[0].get("loc")
        place = [str(step) for step in steps] if isinstance(steps, list) else []
        words = f"{'.'.join(place)}: {detail[0].get('msg')}"
        parameter = next((step for step in place if step != "body"), None)
    named = re.match(r"\w+", parameter) if isinstance(parameter, str) else None
    return _Said(one_line(str(words)), codes, named[0] if named else "", status, location)


def _sort(
    said: _Said, *, url: str, model: str, sent: Collection[str], keyed: bool
) -> tuple[ErrorKind, Scope, str]:
    """Kind, scope, and what to do."""
    status = said.status
    if said.codes & _QUOTA or status == 402:
        return "quota", "run", "check the plan and the billing of the account"
    if status in (401, 407):
        return "authentication", "run", _key_advice(status, keyed)
    if said.codes & _CONTEXT or status == 413 or _TOO_LONG.search(said.words):
        return "too_long", "cell", "shorten the prompt"
    if said.codes & _FILTER or (status < 500 and _FILTERED.search(said.words)):
        return "refused", "cell", ""
    if status == 403:
        return "permission", "run", "the key may not do this: use another key or model"
    if status in _LATER or status >= 500:
        return _LATER.get(status, "server"), "later", ""
    about_model = "model_not_found" in said.codes or said.parameter == "model"
    if about_model or (status == 404 and (_MODEL.search(said.words) or model in said.words)):
        return "unknown_model", "run", "check the name of the model"
    if 300 <= status < 400:
        return "bad_url", "run", f"it sends on to {said.location!r}: ask there, by base_url"
    if status in (404, 405):
        return "bad_url", "run", f"asked {url}; base_url usually ends in /v1"
    parameter = _parameter(said, sent)
    if parameter == "response_format":
        return "bad_parameter", "run", "the server does not take this schema: change schema="
    if parameter:
        return "bad_parameter", "run", f"leave {parameter} out, or change it"
    return "bad_request", "cell", ""


def _key_advice(status: int, keyed: bool) -> str:
    if status == 407:
        return "the proxy wants a name and password: http://name:password@proxy in HTTPS_PROXY"
    if keyed:
        return "check the key: pass api_key=... or set OPENAI_API_KEY"
    return "no key was sent: pass api_key=...; OPENAI_API_KEY goes to OpenAI alone"


def _parameter(said: _Said, sent: Collection[str]) -> str:
    """The field of ours that a 400 is about; empty where it is the prompt, or nobody knows."""
    ours = set(sent) - {"model"}
    if said.parameter:
        about = said.parameter in ours or (
            bool(said.codes & _PARAMETER) and said.parameter != "messages"
        )
        return said.parameter if about else ""
    if "response_format" in ours and _SCHEMA.search(said.words):
        return "response_format"
    for name in sorted(ours):
        quoted = rf"[`'\"]{re.escape(name)}[`'\"]|\b{re.escape(name)}\b(?=:| must| should| is not)"
        if re.search(quoted, said.words):
            return name
    return ""
