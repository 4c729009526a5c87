"""One decision as the dashboard lists it: what the ledger keeps of it, and why in words."""

from __future__ import annotations

import math

from edge_router.control.reasons import why
from edge_router.ledger import Record

PROMPT = 300  # characters of one, where the ledger stores them


def row_of(record: Record, *, prompts: bool) -> dict[str, object]:
    """JSON of `record`; its prompt's beginning with `prompts` only."""
    decision, timings = record.decision, record.timings
    told: dict[str, object] = {
        "time": record.time,
        "tier": decision.model,
        "model": record.model,
        "reason": str(decision.reason),
        "why": why(decision),
        "router": decision.router,
        "score": _finite(decision.score),
        "threshold": _finite(decision.threshold),
        "score_ms": _finite(timings.score_ms),
        "ttft_ms": _finite(timings.ttft_ms),
        "total_ms": _finite(timings.total_ms),
    }
    more: dict[str, object] = {
        "endpoint": decision.endpoint,
        "caller": decision.caller,
        "error": record.error,
        "cause": record.cause,
        "cause_message": record.cause_message,
        "prompt": record.prompt[:PROMPT] if prompts and record.prompt else None,
    }
    return told | {name: value for name, value in more.items() if value}


def _finite(value: float | None) -> float | None:
    """JSON has no word for what a router of somebody else's may give; numpy's numbers are no JSON either."""
    return float(value) if value is not None and math.isfinite(value) else None
