"""Every failure as OpenAI's clients know it: a status, and a body with message, type, param and code.

The sentence that says what to do next is written here, beside the status, once for each kind of error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

from edge_router import errors as e
from edge_router.engines.local_server.servers import how_to_start
from edge_router.errors import clipped
from edge_router.records import dataclass
from edge_router.surfaces.base import Failure

STATEMENT = 2000  # characters of an error's
INVALID = "invalid_request_error"
FAILED = "server_error"


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """How one kind of error is told. `retry`: the same request may work later, as it stands.

    In braces: a setting of the endpoint that failed; `start`: what starts a local server.
    """

    status: int
    type: str
    code: str | None
    advice: str = ""
    retry: bool = False


DOCTOR = "Run `edge-router doctor` on the server's machine: it names the command that mends it."
_SETTINGS = ("base_url", "model", "api_key_env")
SERVER_LOG = "The server's log holds the cause."

# A kind without a row of its own is told as its nearest parent is.
RULES: Mapping[type[e.EdgeRouterError], ErrorRule] = {
    e.EdgeRouterError: ErrorRule(500, FAILED, "internal_error", SERVER_LOG),
    e.InvalidInput: ErrorRule(400, INVALID, "invalid_request", "Change the request and send it again."),
    e.InvalidRequest: ErrorRule(400, INVALID, "invalid_request"),  # it says itself what must be
    e.ContextOverflow: ErrorRule(
        400,
        INVALID,
        "context_length_exceeded",
        "Shorten the conversation, raise weak.context_window_size or configure a strong model.",
    ),
    e.StateOverflow: ErrorRule(
        400,
        INVALID,
        "context_length_exceeded",
        'Shorten it, have its middle left out by `truncation`: "auto", or configure a strong model.',
    ),
    e.UnsupportedRequest: ErrorRule(
        400,
        INVALID,
        "not_supported_by_weak_model",
        "Leave it out, or configure a strong model and ask for the model `auto`.",
    ),
    e.Blocked: ErrorRule(403, "permission_error", "blocked_by_rule", "Change the request and send it again."),
    e.CallerRefused: ErrorRule(403, "permission_error", "forbidden", "Ask whoever runs this server."),
    e.ModelNotAllowed: ErrorRule(
        403, "permission_error", "model_not_allowed", "GET /v1/models lists what it is good for."
    ),
    e.CallerLimited: ErrorRule(
        429, "rate_limit_error", "rate_limit_exceeded", "Wait as long as Retry-After says.", retry=True
    ),
    e.UnknownResponse: ErrorRule(
        404, INVALID, "response_not_found", "It is kept in the server's memory unless store is false."
    ),
    e.PreviousResponseGone: ErrorRule(
        400, INVALID, "previous_response_not_found", "Send the whole conversation as input."
    ),
    e.UnknownName: ErrorRule(404, INVALID, "model_not_found", "GET /v1/models lists the names."),
    e.ConfigError: ErrorRule(500, FAILED, "configuration_error", "Mend it in the server's configuration."),
    e.InvalidRules: ErrorRule(500, FAILED, "configuration_error", "Mend it on the server's machine."),
    e.UnsupportedArchitecture: ErrorRule(
        503, FAILED, "weak_model_unavailable", "Choose another weak.model; see `edge-router models list`."
    ),
    e.UnsupportedTarget: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.InvalidModel: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.InvalidRouter: ErrorRule(503, FAILED, "router_unavailable", "Choose another router.name."),
    e.InvalidData: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.DuplicateName: ErrorRule(500, FAILED, "configuration_error", "Uninstall one of the two packages."),
    e.PluginFailed: ErrorRule(500, FAILED, "configuration_error", "Update or uninstall that package."),
    e.ProviderUnavailable: ErrorRule(503, FAILED, "configuration_error", "Set router.provider to cpu."),
    e.MissingExtra: ErrorRule(503, FAILED, "configuration_error", "Install it on the server's machine."),
    e.WeightsError: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.ArtifactError: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.StorageError: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.LockTimeout: ErrorRule(503, FAILED, "weak_model_unavailable", "Try again when it is done.", retry=True),
    e.EngineError: ErrorRule(500, FAILED, "generation_failed", "Try again; " + SERVER_LOG.lower()),
    e.EngineUnavailable: ErrorRule(503, FAILED, "weak_model_unavailable", DOCTOR),
    e.OutOfMemory: ErrorRule(
        503,
        FAILED,
        "out_of_memory",
        "Free memory, or lower weak.context_window_size, and try again.",
        retry=True,
    ),
    e.EngineRestarting: ErrorRule(
        503, FAILED, "weak_model_unavailable", "Send it again then; " + SERVER_LOG.lower(), retry=True
    ),
    e.LocalServerDown: ErrorRule(
        503, FAILED, "weak_model_unavailable", "The weak model's server is not there: {start}.", retry=True
    ),
    e.ServedModelMissing: ErrorRule(
        503, FAILED, "weak_model_unavailable", "Get it there, or set weak.model to one that is."
    ),
    e.GenerationFailed: ErrorRule(500, FAILED, "generation_failed", "Send the request again.", retry=True),
    e.InternalError: ErrorRule(500, FAILED, "internal_error", SERVER_LOG),
    e.Closed: ErrorRule(503, FAILED, "shutting_down", "Send the request again."),
    e.Cancelled: ErrorRule(503, FAILED, "cancelled", "Send the request again."),
    e.TemplateError: ErrorRule(
        500, FAILED, "chat_template_failed", "Change the messages' roles or the model."
    ),
    e.StrongError: ErrorRule(502, FAILED, "strong_model_failed", "Try again, or use the model `weak`."),
    e.StrongNotConfigured: ErrorRule(
        503, FAILED, "strong_model_not_configured", "Set strong.model, or use the model `weak`."
    ),
    e.StrongUnreachable: ErrorRule(
        502,
        FAILED,
        "strong_model_unreachable",
        "Check {base_url} and the network, or use the model `weak`.",
        retry=True,
    ),
    e.StrongRedirected: ErrorRule(
        502, FAILED, "strong_model_redirected", "Set {base_url} to where it belongs."
    ),
    e.StrongTimeout: ErrorRule(
        504,
        FAILED,
        "strong_model_timeout",
        "Try again, allow more time in the server's configuration or use the model `weak`.",
        retry=True,
    ),
    e.StrongUnauthorized: ErrorRule(
        502,
        FAILED,
        "strong_model_unauthorized",
        "Put a valid key on the server's machine where {api_key_env} says.",
    ),
    e.StrongRateLimited: ErrorRule(
        429, "rate_limit_error", "rate_limit_exceeded", "Wait, or use the model `weak`.", retry=True
    ),
    e.StrongPaused: ErrorRule(
        503, FAILED, "strong_model_paused", "Wait, or use the model `weak`.", retry=True
    ),
    e.Withheld: ErrorRule(
        403,
        "permission_error",
        "withheld",
        "Take it out, or ask for the model `auto` or `weak`; where the rule, or [guard] of the server's "
        "configuration, says redact in its place, it is hidden from the strong model and put back.",
    ),
    e.BudgetSpent: ErrorRule(
        402,
        "insufficient_quota",
        "budget_spent",
        "Raise strong.monthly_budget in the server's configuration, or use the model `weak`.",
    ),
    e.StrongQuotaExceeded: ErrorRule(
        402,
        "insufficient_quota",
        "insufficient_quota",
        "Top up the account there, or use the model `weak`.",
    ),
    e.StrongRefused: ErrorRule(
        400,
        INVALID,
        "strong_model_refused",
        "Change it, name another {model} in the server's configuration, or use the model `weak`.",
    ),
    e.StrongFailed: ErrorRule(
        502, FAILED, "strong_model_failed", "Try again, or use the model `weak`.", retry=True
    ),
    e.StrongInterrupted: ErrorRule(502, FAILED, "strong_model_interrupted", "Send it again.", retry=True),
    e.StrongGarbled: ErrorRule(
        502, FAILED, "strong_model_garbled", "Check that {base_url} is an OpenAI-compatible endpoint."
    ),
    e.StrongEmpty: ErrorRule(502, FAILED, "strong_model_empty", "Send it again.", retry=True),
    e.ServerError: ErrorRule(500, FAILED, "internal_error", SERVER_LOG),
}

# What the web framework and the guards refuse: type and code for a status.
REFUSALS: Mapping[int, tuple[str, str]] = {
    400: (INVALID, "invalid_request"),
    401: (INVALID, "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: (INVALID, "not_found"),
    405: (INVALID, "method_not_allowed"),
    408: (INVALID, "request_timeout"),
    413: (INVALID, "request_too_large"),
    415: (INVALID, "unsupported_media_type"),
    503: (FAILED, "shutting_down"),
}


def rule(error: e.EdgeRouterError) -> ErrorRule:
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def failure(error: e.EdgeRouterError) -> Failure:
    """One of our own errors, told to a client."""
    how = rule(error)
    if isinstance(error, e.StrongFailed) and error.status in (400, 413, 422):
        how = ErrorRule(400, INVALID, "strong_model_refused", "Change the request and send it again.")
    statement = clipped(str(error).rstrip(" ."), STATEMENT)
    end = "" if statement.endswith("?") else "."
    advice = how.advice
    if isinstance(error, e.StrongError):
        advice = advice.format_map({name: error.setting_of(name) for name in _SETTINGS})
    if isinstance(error, e.LocalServerDown):
        advice = advice.format(start=how_to_start(error.kind))
    message = f"{statement}{end} {advice}".rstrip()
    headers = {} if how.retry or how.status < 500 else {"x-should-retry": "false"}
    if isinstance(error, e.StrongRateLimited | e.StrongPaused) and error.retry_after is not None:
        headers["retry-after"] = str(max(0, math.ceil(error.retry_after)))
    if isinstance(error, e.CallerLimited):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, e.EngineRestarting):
        headers["retry-after"] = str(math.ceil(error.again_s))
    param = error.param if isinstance(error, e.InvalidRequest) else None
    if isinstance(error, e.StrongRefused):
        param = error.field
    param = None if param is None else clipped(param)
    if isinstance(error, e.UnknownName | e.ModelNotAllowed):
        param = "model"
    return Failure(how.status, message, how.type, how.code, param, headers)


def refusal(status: int, message: str = "", headers: Mapping[str, str] | None = None) -> Failure:
    """A request that never reached a handler, or that a handler would not read."""
    kind, code = REFUSALS.get(status, (INVALID if status < 500 else FAILED, f"http_{status}"))
    return Failure(status, message or HTTPStatus(status).phrase, kind, code, None, headers or {})


def unexpected() -> Failure:
    """A mistake of ours. Nothing of it reaches the client; the log has the traceback."""
    return Failure(500, f"Something broke inside edge_router. {SERVER_LOG}", FAILED, "internal_error")
