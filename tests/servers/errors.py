"""How the services say no: their error bodies, by the name of the fault."""

from __future__ import annotations

from typing import Any

HTML = b"<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>"

OPENAI: dict[str, tuple[int, str, str, str | None, str | None]] = {
    # name: status, message, type, param, code; {model}, {key} (shortened), {whole}, {parameter}
    "401": (
        401,
        (
            "Incorrect API key provided: {key}. You can find your API key at "
            "https://platform.openai.com/account/api-keys."
        ),
        "invalid_request_error",
        None,
        "invalid_api_key",
    ),
    "echo": (401, "Wrong key {whole}", "invalid_request_error", None, "invalid_api_key"),
    "402": (402, "Insufficient credits. Add more to go on.", "billing", None, None),
    "403": (
        403,
        "Country, region, or territory not supported",
        "request_forbidden",
        None,
        "unsupported_country_region_territory",
    ),
    "404": (
        404,
        "The model `{model}` does not exist or you do not have access to it.",
        "invalid_request_error",
        None,
        "model_not_found",
    ),
    "429": (
        429,
        (
            "Rate limit reached for {model} in organization org-test on requests per min (RPM): "
            "Limit 500, Used 500, Requested 1. Please try again in 120ms."
        ),
        "requests",
        None,
        "rate_limit_exceeded",
    ),
    "quota": (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        None,
        "insufficient_quota",
    ),
    "contexttoolong": (
        400,
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted "
            "in 130001 tokens. Please reduce the length of the messages."
        ),
        "invalid_request_error",
        "messages",
        "context_length_exceeded",
    ),
    "badparam": (
        400,
        "Unsupported parameter: '{parameter}' is not supported with this model.",
        "invalid_request_error",
        "{parameter}",
        "unsupported_parameter",
    ),
    "badvalue": (
        400,
        "Invalid '{parameter}': decimal above maximum value. Expected a value <= 2, but got 9.",
        "invalid_request_error",
        "{parameter}",
        "decimal_above_max_value",
    ),
    "badrequest": (
        400,
        "Invalid 'messages[0].content': expected a string.",
        "invalid_request_error",
        "messages[0].content",
        "invalid_value",
    ),
    "filter": (
        400,
        "The response was filtered due to the prompt triggering the content management policy.",
        "invalid_request_error",
        "prompt",
        "content_filter",
    ),
}

ANTHROPIC: dict[str, tuple[int, str, str]] = {
    "401": (401, "authentication_error", "invalid x-api-key"),
    "echo": (401, "authentication_error", "invalid x-api-key {whole}"),
    "402": (402, "billing_error", "There is an issue with your billing or payment information."),
    "403": (403, "permission_error", "Your API key does not have permission to use this."),
    "404": (404, "not_found_error", "model: {model}"),
    "413": (413, "request_too_large", "Request exceeds the maximum size"),
    "429": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute.",
    ),
    "quota": (
        400,
        "invalid_request_error",
        (
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            "Billing to upgrade or purchase credits."
        ),
    ),
    "contexttoolong": (
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ),
    "badparam": (
        400,
        "invalid_request_error",
        "{parameter}: Extra inputs are not permitted",
    ),
    "badvalue": (
        400,
        "invalid_request_error",
        "{parameter}: Input should be less than or equal to 1",
    ),
    "badrequest": (
        400,
        "invalid_request_error",
        "messages.0.content: Input should be a valid string",
    ),
    "filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "529": (529, "overloaded_error", "Overloaded"),
}

OTHER_SERVERS: dict[str, tuple[int, dict[str, Any]]] = {
    # the same faults as other servers of OpenAI's interface word them
    "ctxvllm": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you "
            "requested 5000 tokens in the messages, Please reduce the length of the messages.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    "ctxllama": (
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 5000,
                "n_ctx": 4096,
            }
        },
    ),
    "modelollama": (
        404,
        {"error": {"message": 'model "{model}" not found, try pulling it first', "code": None}},
    ),
    "422": (
        422,
        {
            "detail": [
                {"loc": ["body", "{parameter}"], "msg": "extra fields not permitted", "type": "x"}
            ]
        },
    ),
    "gateway": (200, {"error": {"message": "Provider returned error", "code": 502}}),
    "noroutejson": (404, {"detail": "Not Found"}),
}

_OWN = {"model", "messages", "system", "max_tokens"}
_KINDS = {408: "timeout", 409: "conflict_error", 529: "overloaded_error"}


NAMES = OPENAI.keys() | ANTHROPIC.keys() | OTHER_SERVERS.keys()


def error(
    service: str, name: str, body: dict[str, Any], key: str
) -> tuple[int, dict[str, Any]] | None:
    """Status and body of the fault ``name`` as the service words it; ``None`` if it is none."""
    model = body.get("model", "")
    parameter = next((k for k in body if k not in _OWN), "temperature")
    words = {
        "model": model,
        "whole": key,
        "key": f"{key[:5]}{'*' * max(3, len(key) - 9)}{key[-4:]}",
        "parameter": parameter,
    }
    if name in OTHER_SERVERS:
        status, shape = OTHER_SERVERS[name]
        return status, _filled(shape, words)
    if service == "anthropic" and name in ANTHROPIC:
        status, kind, message = ANTHROPIC[name]
        return status, _anthropic(kind, message.format(**words))
    if service == "openai" and name in OPENAI:
        status, message, kind, param, code = OPENAI[name]
        said = message.format(**words)
        where = param and param.format(**words)
        return status, {"error": {"message": said, "type": kind, "param": where, "code": code}}
    if not (len(name) == 3 and name.isdigit()):
        return None
    status = int(name)
    message = f"The server had an error while processing your request ({status})"
    kind = _KINDS.get(status, "api_error" if service == "anthropic" else "server_error")
    if service == "anthropic":
        return status, _anthropic(kind, message)
    return status, {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _anthropic(kind: str, message: str) -> dict[str, Any]:
    problem = {"type": kind, "message": message}
    return {"type": "error", "error": problem, "request_id": "req_011"}


def _filled(shape: Any, words: dict[str, str]) -> Any:
    if isinstance(shape, dict):
        return {key: _filled(value, words) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_filled(value, words) for value in shape]
    return shape.format(**words) if isinstance(shape, str) else shape
