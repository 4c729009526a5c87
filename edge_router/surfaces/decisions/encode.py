"""Answers to typed questions and errors, in the words of both protocols. Pure.

Beside what the protocols have, a reply says in `edge_router` who has answered each question, and why.
"""

from __future__ import annotations

import re

from edge_router.questions.answer import Answer, ChoiceAnswer, NoAnswer, ScaleAnswer, YesNoAnswer
from edge_router.questions.result import Answers, Given
from edge_router.surfaces.base import Body, Failure, Head

BAD_REQUEST, UNPROCESSABLE = 400, 422
BLANK = b" "  # before any JSON, and a part of none
_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")


def systemone(head: Head, answers: Answers) -> Body:
    found = {str(given.name): _systemone(given.answer) for given in answers.given}
    return {
        "model": head.model,
        "answers": {name: answer for name, answer in found.items() if answer is not None},
        "usage": {
            "input_tokens": answers.usage.prompt_tokens,
            "output_tokens": answers.usage.completion_tokens,
        },
        "edge_router": _told(answers),
    }


def _systemone(answer: Answer) -> Body | None:
    """None where there is no answer, for which this protocol has no word."""
    if isinstance(answer, YesNoAnswer):
        return {"type": "noul", "noul": answer.probability}
    if isinstance(answer, ChoiceAnswer):
        labels = (option.text for option in answer.question.options)
        return {
            "type": "choice",
            "choice": answer.choice,
            "probabilities": dict(zip(labels, answer.probabilities, strict=True)),
            "confidence": answer.confidence,
        }
    if isinstance(answer, ScaleAnswer):
        return {
            "type": "score",
            "score": answer.score,
            "legend": {str(index): level.label for index, level in enumerate(answer.question.levels)},
            "probabilities": {str(index): each for index, each in enumerate(answer.probabilities)},
            "confidence": answer.confidence,
        }
    return None


def decisions(head: Head, answers: Answers) -> Body:
    usage = answers.usage
    return {
        "id": f"dec_{head.id}",
        "object": "decision",
        "created_at": head.created,
        "model": head.model,
        "answers": [_decision(given.answer) for given in answers.given],
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.total_tokens,
        },
        "edge_router": _told(answers),
    }


def _decision(answer: Answer) -> Body:
    name = answer.question.name
    if isinstance(answer, NoAnswer):
        return {"type": "refusal", "name": name}
    if isinstance(answer, YesNoAnswer):
        return {"type": "predicate", "name": name, "probability": answer.probability}
    if isinstance(answer, ChoiceAnswer):
        options = zip(answer.question.options, answer.probabilities, strict=True)
        return {
            "type": "choice",
            "name": name,
            "choice": answer.choice,
            "probabilities": [{"value": option.value, "probability": each} for option, each in options],
            "confidence": answer.confidence,
        }
    levels = enumerate(zip(answer.question.levels, answer.probabilities, strict=True))
    return {
        "type": "score",
        "name": name,
        "score": answer.score,
        "probabilities": [
            {"value": index, "label": level.label, "probability": each} for index, (level, each) in levels
        ],
        "confidence": answer.confidence,
    }


def _told(answers: Answers) -> Body:
    told: Body = {"answers": [_given(given) for given in answers.given]}
    if answers.cut:
        told["truncated_tokens"] = answers.cut
    return told


def _given(given: Given) -> Body:
    told: Body = {
        "name": given.name,
        "answered_by": given.model,
        "model": given.decision.model,
        "reason": str(given.decision.reason),
        "confidence": given.decision.confidence,
        "threshold": given.decision.threshold,
        "endpoint": given.decision.endpoint,
        "rule": given.decision.rule,
    }
    return {name: value for name, value in told.items() if value is not None or name == "name"}


def detail(failure: Failure) -> Body:
    """TypeSafe's form of an error: entries as pydantic writes them where a field is at fault."""
    if failure.status not in (BAD_REQUEST, UNPROCESSABLE):
        return {"detail": failure.message}
    steps = [found[2] or int(found[1]) for found in _STEP.finditer(failure.param or "")]
    message = failure.message.removeprefix(f"{failure.param}: ")  # which is said beside it
    told = {"type": failure.code or failure.type, "loc": ["body", *steps], "msg": message}
    return {"detail": [told]}
