"""Decisions in words: which model answered, why, and how fast it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.cli.terminal.sentences import sentence
from edge_router.control.answer import Answer
from edge_router.control.reasons import why
from edge_router.errors import LowConfidence
from edge_router.routing.thresholds.drift import Drift
from edge_router.types import Tier

if TYPE_CHECKING:
    from edge_router.questions.result import Answers

_CAUSE = 160  # characters of what the other model met, in the line below an answer


def credit(answer: Answer) -> str:
    """The line below an answer."""
    reason = why(answer.decision)
    if (cause := answer.fallback_cause) is not None and not isinstance(cause, LowConfidence):
        said = " ".join(str(cause).split())
        reason += f" ({said if len(said) <= _CAUSE else said[: _CAUSE - 3] + '...'})"
    return ", ".join([f"{answer.model} ({answer.decision.model}): {reason}", *_speed(answer)])


def fallback(answer: Answer | Answers) -> str | None:
    """Why the other model had to be asked, if it had."""
    if answer.fallback_cause is None or isinstance(answer.fallback_cause, LowConfidence):
        return None  # being unsure is no failure, and the reason says it
    other: Tier = "strong" if answer.decision.model == "weak" else "weak"
    return f"the {other} model could not answer: {sentence(answer.fallback_cause)}"


def truncation(answer: Answer) -> str | None:
    """What was left out to make a conversation fit, if anything was."""
    if not answer.truncated:
        return None
    what = "message was" if answer.truncated == 1 else f"{answer.truncated} messages were"
    return f"the oldest {what} left out, for the conversation no longer fits the model's context"


def drift_words(drift: Drift) -> str | None:
    """That the traffic is no longer what the threshold was calibrated on, if it is so."""
    if not drift.drifted:
        return None
    base = drift.baseline
    return (
        f"the traffic has changed since router.threshold was calibrated: it sends {drift.share:.0%} of the "
        f"last {drift.n} queries to the strong model, {base.strong_share:.0%} then; renew it: "
        f"edge-router calibrate --ledger --last {drift.n} --strong-share {base.strong_share:.2g}"
    )


def details(answer: Answer) -> list[tuple[str, str]]:
    """Everything about a decision, for /why."""
    decision, timings = answer.decision, answer.timings
    rows = [
        ("answered by", f"{answer.model} ({decision.model})"),
        *([("endpoint", decision.endpoint)] if decision.endpoint is not None else []),
        ("reason", why(decision)),
        ("router", decision.router or "not asked"),
    ]
    if decision.confidence is not None:
        rows.append(("chance of being right", f"{decision.confidence:.2f}, put by the weak model"))
    if decision.would_escalate:
        rows.append(("for the strong model", "once it can be asked: edge-router upgrade"))
    cause = fallback(answer)
    if cause:
        rows.append(("fallback", cause))
    if shortened := truncation(answer):
        rows.append(("shortened", shortened))
    if answer.usage is not None:
        usage = answer.usage
        kept = f", {usage.cached_tokens} of the prompt's kept from before" if usage.cached_tokens else ""
        rows.append(("tokens", f"{usage.prompt_tokens} in, {usage.completion_tokens} out{kept}"))
    if answer.spent is not None:
        spent = answer.spent
        rows.append(
            ("by the weak model", f"{spent.prompt_tokens} in, {spent.completion_tokens} out, not shown")
        )
    for name, value, unit in (
        ("scored in", timings.score_ms, "ms"),
        ("first token after", timings.ttft_ms, "ms"),
        ("whole answer after", timings.total_ms, "ms"),
        ("prefill", timings.prefill_tokens_per_s, "tokens/s"),
        ("decode", timings.decode_tokens_per_s, "tokens/s"),
    ):
        if value is not None:
            rows.append((name, f"{value:.1f} {unit}"))
    return rows


def _speed(answer: Answer) -> list[str]:
    parts = []
    if answer.usage is not None:
        count = answer.usage.completion_tokens
        parts.append(f"{count} token{'' if count == 1 else 's'}")
    rate = answer.timings.decode_tokens_per_s
    if rate is not None:
        parts.append(f"{rate:.0f} tokens/s")
    finished = answer.finished
    if finished is not None and finished.looped:
        parts.append("ended here, for it only repeated itself")
    elif finished is not None and finished.reason == "length":
        parts.append("cut off at the token limit")
    return parts
