"""Decisions in words: why a query went where it went, in a sentence for people."""

from __future__ import annotations

from edge_router.parsing.sizes import span
from edge_router.types import Decision, Reason

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
    Reason.CHORE: "a chore beside a conversation",
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
