"""Decisions in words: which model answered, why, and how fast it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.cli.output import span
from edge_router.cli.sentences import sentence
from edge_router.control.answer import Answer
from edge_router.errors import LowConfidence
from edge_router.routing.thresholds.drift import Drift
from edge_router.types import Decision, Reason, Tier

if TYPE_CHECKING:
    from edge_router.questions.result import Answers

_CAUSE = 160  # characters of what the other model met, in the line below an answer

_WORDS = {
    Reason.FORCED: "as asked",
    Reason.OFFLINE: "the network is switched off",
    Reason.PRIVATE: "the question is private",
    Reason.RULE: "a rule of yours says so",
    Reason.GUARD: "it must not leave this machine",
    Reason.CONTEXT_OVERFLOW: "the prompt does not fit the weak model",
    Reason.NEEDS_TOOLS: "the weak model cannot do what is asked",
    Reason.NEEDS_MEDIA: "the weak model reads text only",
    Reason.BUDGET: "the money for the strong model is spent",
    Reason.LOW_CONFIDENCE: "the weak model was unsure",
    Reason.UNCALIBRATED: "how sure is sure enough was not measured yet",
    Reason.NO_MEMORY: "the weak model no longer fits into memory",
    Reason.WEAK_UNAVAILABLE: "the weak model could not answer",
    Reason.STRONG_UNAVAILABLE: "no strong model can be asked",
    Reason.CACHED: "it had been answered before",
    Reason.CALLER: "this caller may use the weak model only",
    Reason.SESSION: "the conversation stays with its model",
}


def why(decision: Decision) -> str:
    """The reason, with the score where there is one, and what the guard has found."""
    words, held = _scored(decision), ", ".join(decision.found)
    if decision.age_s is not None:
        words += f", {span(decision.age_s)} ago"
    if decision.similarity is not None:
        words += f", to a question that is {decision.similarity:.3f} the same"
    if decision.tier_model is not None:
        words += f", for {decision.tier_model}"
    if decision.rule is not None:
        words += f" (rule {decision.rule!r})"
    if held and decision.model == "strong":
        words += f"; hidden from it: {held}"
    return words


def _scored(decision: Decision) -> str:
    words = _WORDS.get(decision.reason, "")
    if decision.reason is Reason.CONFIDENCE:
        return _by_confidence(decision)
    if decision.reason is Reason.GUARD:
        words += f", for it holds {', '.join(decision.found)}"
    if decision.held == "tool_call":
        words = "it called the tool whose result came"
    elif decision.held_tokens:
        words += f", for the other one would have to read {decision.held_tokens:,} tokens again"
    if decision.score is None or decision.threshold is None:
        return words
    score, threshold = f"{decision.score:.3f}", f"{decision.threshold:.3f}"
    if score == threshold:
        score, threshold = f"{decision.score:.6f}", f"{decision.threshold:.6f}"
    if decision.reason is not Reason.SCORE:
        return f"{words}; score {score}, threshold {threshold}"
    relation = "reaches" if decision.model == "strong" else "is below"
    return f"score {score} {relation} the threshold {threshold}"


def _by_confidence(decision: Decision) -> str:
    """Of an answer to a typed question: how sure the weak model was of it, beside what it takes."""
    from edge_router.questions.bounds import NONE_STAYS

    sure, bound = decision.confidence, decision.threshold
    if sure is None or bound is None:
        return "the weak model had no answer"
    if decision.model == "weak":
        return f"sure enough, which it is from {bound:.2f} on"
    if bound >= NONE_STAYS:
        return "the weak model is never sure enough of such questions"
    return f"the weak model was not sure enough, {sure:.2f} of {bound:.2f}"


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
