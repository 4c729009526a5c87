"""A record as a row of the ledger's table, and a row as a record."""

from __future__ import annotations

import sqlite3

from edge_router.ledger.records import Record
from edge_router.types import Decision, Reason, Tier, Timings, Usage

INSERT = """
INSERT INTO decisions (
    time, tier, reason, router, score, threshold, model, prompt_tokens, completion_tokens, cached_tokens,
    score_ms, ttft_ms, total_ms, prefill_tokens_per_s, decode_tokens_per_s, error, cause,
    prompt
) VALUES (
    :time, :tier, :reason, :router, :score, :threshold, :model, :prompt_tokens, :completion_tokens,
    :cached_tokens, :score_ms, :ttft_ms, :total_ms, :prefill_tokens_per_s, :decode_tokens_per_s, :error,
    :cause, :prompt
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
        # JSON can spell half of a surrogate pair, which UTF-8 can't.
        "prompt": None if prompt is None else prompt.encode("utf-8", "replace").decode(),
    }


def record_of(row: sqlite3.Row) -> Record:
    """A row as the record that it was."""
    tier: Tier = "strong" if row["tier"] == "strong" else "weak"
    usage = None
    if row["prompt_tokens"] is not None:
        usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
    return Record(
        Decision(tier, Reason(row["reason"]), row["score"], row["threshold"], row["router"]),
        row["model"],
        usage,
        Timings(
            row["score_ms"],
            row["ttft_ms"],
            row["total_ms"],
            row["prefill_tokens_per_s"],
            row["decode_tokens_per_s"],
        ),
        row["error"],
        row["cause"],
        row["prompt"],
        row["time"],
        row["rating"] if "rating" in row.keys() else None,  # noqa: SIM118 - a row is no mapping
        row["id"],
    )
