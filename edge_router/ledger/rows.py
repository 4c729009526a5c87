"""A record as a row of the ledger's table, and a row as a record."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Iterable
from typing import TypeVar, cast, get_args

from edge_router.chat.events import Usage
from edge_router.ledger.records import Record
from edge_router.types import Decision, Hold, Reason, Tier, Timings

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)

INSERT = """
INSERT INTO decisions (
    time, tier, reason, router, score, threshold, model, prompt_tokens, completion_tokens, cached_tokens,
    score_ms, ttft_ms, total_ms, prefill_tokens_per_s, decode_tokens_per_s, error, cause, cause_message,
    prompt, confidence, spent_prompt_tokens, spent_completion_tokens, found, rule, endpoint, caller,
    held, held_tokens, would_escalate, tier_model
) VALUES (
    :time, :tier, :reason, :router, :score, :threshold, :model, :prompt_tokens, :completion_tokens,
    :cached_tokens, :score_ms, :ttft_ms, :total_ms, :prefill_tokens_per_s, :decode_tokens_per_s, :error,
    :cause, :cause_message, :prompt, :confidence, :spent_prompt_tokens, :spent_completion_tokens,
    :found, :rule, :endpoint, :caller, :held, :held_tokens, :would_escalate, :tier_model
)"""


def row_of(record: Record, *, with_prompt: bool) -> dict[str, object]:
    """What `INSERT` takes."""
    decision, usage, timings = record.decision, record.usage, record.timings
    prompt = record.prompt if with_prompt else None
    return {
        "time": record.time,
        "tier": decision.model,
        "reason": str(decision.reason),
        "router": decision.router,
        "score": decision.score,
        "threshold": decision.threshold,
        "model": record.model,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "score_ms": timings.score_ms,
        "ttft_ms": timings.ttft_ms,
        "total_ms": timings.total_ms,
        "prefill_tokens_per_s": timings.prefill_tokens_per_s,
        "decode_tokens_per_s": timings.decode_tokens_per_s,
        "error": record.error,
        "cause": record.cause,
        "cause_message": _text(record.cause_message),
        "prompt": _text(prompt),
        "confidence": decision.confidence,
        "endpoint": decision.endpoint,
        "caller": decision.caller,
        "held": decision.held,
        "held_tokens": decision.held_tokens,
        "would_escalate": int(decision.would_escalate) or None,
        "tier_model": _text(decision.tier_model),
        "rule": _text(decision.rule),
        "found": "\n".join(decision.found) or None,
        "spent_prompt_tokens": record.spent and record.spent.prompt_tokens,
        "spent_completion_tokens": record.spent and record.spent.completion_tokens,
    }


def _text(text: str | None) -> str | None:
    """JSON can spell half of a surrogate pair, which UTF-8 can't."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def records_of(rows: Iterable[sqlite3.Row]) -> tuple[Record, ...]:
    """The records of those rows that this version knows; of the others it is told how many there are."""
    found, unknown = [], 0
    for row in rows:
        try:
            found.append(record_of(row))
        except (ValueError, TypeError):
            unknown += 1
    if unknown:
        _logger.warning("%d rows of the ledger are of another edge_router and were left out", unknown)
    return tuple(found)


def record_of(row: sqlite3.Row) -> Record:
    """A row as the record that it was. Raises `ValueError` for what this version does not know."""
    known = frozenset(row.keys())  # a file of an older version has fewer

    def get(name: str, kind: type[_T]) -> _T | None:
        """SQLite keeps in any column what cannot be made its type, and infinity for 1e999."""
        found = row[name] if name in known else None
        if found is None or (isinstance(found, kind) and _is_finite(found)):
            return found
        raise ValueError(f"{name} is {str(found)[:40]!r}")

    def stated(name: str, kind: type[_T]) -> _T:
        found = get(name, kind)
        if found is None:
            raise ValueError(f"{name} is missing")
        return found

    def usage(prompt: str, completion: str, cached: str | None = None) -> Usage | None:
        asked = get(prompt, int)
        if asked is None:
            return None
        return Usage(asked, get(completion, int) or 0, get(cached, int) or 0 if cached else 0)

    decision = (get("score", float), get("threshold", float), get("router", str), get("confidence", float))
    egress = (tuple((get("found", str) or "").splitlines()), get("rule", str), get("endpoint", str))
    caller, held = get("caller", str), _hold(get("held", str))
    return Record(
        Decision(
            _tier(stated("tier", str)),
            Reason(stated("reason", str)),
            *decision,
            *egress,
            caller,
            held,
            get("held_tokens", int),
            bool(get("would_escalate", int)),
            tier_model=get("tier_model", str),
        ),
        stated("model", str),
        usage("prompt_tokens", "completion_tokens", "cached_tokens"),
        Timings(
            get("score_ms", float),
            get("ttft_ms", float),
            get("total_ms", float),
            get("prefill_tokens_per_s", float),
            get("decode_tokens_per_s", float),
        ),
        get("error", str),
        get("cause", str),
        get("prompt", str),
        stated("time", float),
        get("rating", int),
        usage("spent_prompt_tokens", "spent_completion_tokens"),
        stated("id", int),
        get("cause_message", str),
    )


def score_of(row: sqlite3.Row) -> float | None:
    """None for what is no number, as `record_of` refuses it."""
    score: object = row["score"]
    return score if isinstance(score, float) and math.isfinite(score) else None


def _tier(word: str) -> Tier:
    for tier in get_args(Tier):
        if word == tier:
            return cast(Tier, tier)
    raise ValueError(word)


def _hold(word: str | None) -> Hold | None:
    if word is None or word in get_args(Hold):
        return cast("Hold | None", word)
    raise ValueError(word)


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
