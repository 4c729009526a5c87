"""Bytes for clients: JSON bodies and the headers that tell the decision."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from edge_router.api.async_client import AsyncAnswer
from edge_router.control.answer import Answer
from edge_router.questions.result import Answers
from edge_router.surfaces.wire import dumps

PREFIX = "x-edge-router-"


def json_reply(
    body: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return json_bytes(dumps(body), status, headers)


def json_bytes(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


def decision_headers(answer: Answer | AsyncAnswer[bytes] | Answers) -> dict[str, str]:
    """Where the answer came from and why. Bodies stay exactly their protocol's."""
    decision, cause = answer.decision, answer.fallback_cause
    told = {
        "model": decision.model,
        "score": _number(decision.score),
        "threshold": _number(decision.threshold),
        "reason": str(decision.reason),
        "endpoint": decision.endpoint,
        "tier-model": _ascii(decision.tier_model),
        "held": decision.held,
        "held-tokens": None if decision.held_tokens is None else str(decision.held_tokens),
        "would-escalate": "true" if decision.would_escalate else None,
        "rule": _ascii(decision.rule),
        "found": _ascii("; ".join(decision.found)),
        "age": _number(decision.age_s),
        "similarity": _number(decision.similarity),
        "fallback": None if cause is None else type(cause).__name__,
        "truncated": str(answer.truncated) if answer.truncated else None,
    }
    return {PREFIX + name: value for name, value in told.items() if value is not None}


def _ascii(text: str | None) -> str | None:
    """What a header can hold of the name that somebody gave a rule."""
    return text.encode("ascii", "backslashreplace").decode() if text else None


def _number(value: float | None) -> str | None:
    """All digits, so that it can be calibrated with; `float`, since a router may give numpy's."""
    return None if value is None else repr(float(value))
