"""What may leave this machine, by the user's rules and the guard.

Asked twice: before a decision is made, and once more where a request leaves (`guarded_engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from edge_router.chat.request import ChatRequest
from edge_router.errors import Withheld
from edge_router.guard.detectors import Detector
from edge_router.guard.inspection import Guard, Inspection
from edge_router.guard.screening import Screening, Vault
from edge_router.routing.rules.query import Query
from edge_router.routing.rules.rule import Rule, Verdict, judged


def _now() -> datetime:
    return datetime.now()


class Egress:
    """Safe to use from any number of threads."""

    def __init__(
        self,
        guard: Guard,
        rules: Callable[[], Sequence[Rule]] = tuple,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """`rules`: those that hold now."""
        self._guard, self._rules, self._clock = guard, rules, clock

    def judge(self, request: ChatRequest) -> Verdict:
        """What the rules say of it."""
        rules = self._rules()
        return judged(rules, Query(request, self._clock())) if rules else _SILENT

    def inspect(self, request: ChatRequest, verdict: Verdict) -> Inspection:
        """What the guard finds in it, and what the rules would hide."""
        screening = self._screening(verdict)
        inspection = self._guard.inspect(request, screening)
        if verdict.redact and not inspection.stays:
            # What a rule finds and nobody can hide, such as letters whose accents stand apart, stays here.
            left = Query(screening.hidden(request)[0], self._clock())
            stays = tuple(_noun(rule) for rule in verdict.redact if rule.finds(left))
            return replace(inspection, found=inspection.found or stays, stays=stays)
        return inspection

    def released(self, request: ChatRequest) -> tuple[ChatRequest, Vault]:
        """`request` as it may leave, and what was taken out of it. Raises `Withheld` where it must not."""
        verdict = self.judge(request)
        if (rule := verdict.block or verdict.local_only) is not None:
            raise Withheld(rule=rule.name)
        inspection = self.inspect(request, verdict)
        if inspection.stays:
            raise Withheld(inspection.stays)
        if not inspection.found:
            return request, Vault()
        return self._screening(verdict).hidden(request)

    def masked(self, text: str) -> str:
        """`text` as it may be kept."""
        return self._guard.masked(text)

    def kept(self, request: ChatRequest) -> ChatRequest:
        """`request` as it may be kept."""
        return self._guard.kept(request)

    def _screening(self, verdict: Verdict) -> Screening:
        hiding = [_detector(rule) for rule in verdict.redact if rule.texts]
        return self._guard.screening(hiding, everything=any(not rule.texts for rule in verdict.redact))


_SILENT = Verdict()


def _detector(rule: Rule) -> Detector:
    def find(text: str) -> Iterator[tuple[int, int, str]]:
        return ((*span, "") for spans in rule.texts for span in spans(text))

    return Detector(f"rule {rule.name}", "HIDDEN", _noun(rule), find, alike=False)


def _noun(rule: Rule) -> str:
    return f"what the rule {rule.name!r} hides"
