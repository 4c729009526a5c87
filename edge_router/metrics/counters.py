"""Counters and histograms of one process, in Prometheus's text format (the server's /metrics).

Counts are made of the same `Record` as the ledger's rows, so they agree with it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from edge_router.ledger import Record
from edge_router.types import Reason

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

Labels = tuple[str, ...]


class Counter:
    """A sum per combination of labels. Not locked: `Metrics` is."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name, self.text, self.labels = name, text, tuple(labels)
        self._sums: dict[Labels, float] = {}

    def add(self, values: Labels, amount: float = 1) -> None:
        self._sums[values] = self._sums.get(values, 0) + amount

    def values(self) -> Iterator[tuple[Labels, float]]:
        yield from sorted(self._sums.items())

    def lines(self) -> Iterator[str]:
        for values, total in self.values():
            yield _line(self.name, zip(self.labels, values, strict=True), total)


class Histogram:
    """Counts per upper bound, with sum and count, per combination of labels. Not locked: `Metrics` is."""

    kind = "histogram"

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float] = SECONDS
    ) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, tuple(labels), tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}  # one for each bound, the last for what is above all
        self._sums: dict[Labels, float] = {}

    def add(self, values: Labels, amount: float) -> None:
        counts = self._counts.setdefault(values, [0] * (len(self.bounds) + 1))
        counts[bisect_left(self.bounds, amount)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + amount

    def lines(self) -> Iterator[str]:
        for values, counts in sorted(self._counts.items()):
            labels = list(zip(self.labels, values, strict=True))
            below = 0
            for bound, count in zip([*map(_number, self.bounds), "+Inf"], counts, strict=True):
                below += count
                yield _line(f"{self.name}_bucket", [*labels, ("le", bound)], below)
            yield _line(f"{self.name}_sum", labels, self._sums[values])
            yield _line(f"{self.name}_count", labels, below)


class Gauge:
    """What is so at the moment when somebody asks; `read` gives a value for each combination of labels."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Iterable[tuple[Labels, float]]],
    ) -> None:
        self.name, self.text, self.labels, self._read = name, text, tuple(labels), read

    def values(self) -> Iterator[tuple[Labels, float]]:
        yield from self._read()

    def lines(self) -> Iterator[str]:
        for values, amount in self.values():
            yield _line(self.name, zip(self.labels, values, strict=True), amount)


class Count(Gauge):
    """What somebody else has counted since this process began."""

    kind = "counter"


class Metrics:
    """What one process did since it started. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = Counter(
            "edge_router_requests_total", "Answers, by the tier that gave them.", ("tier", "reason")
        )
        self._tiers = Counter(
            "edge_router_tier_requests_total", "Answers for which the score chose that model.", ("model",)
        )
        self._failures = Counter(
            "edge_router_failures_total", "Answers that ended in an error.", ("tier", "error")
        )
        self._defects = Counter(
            "edge_router_defects_total", "Mistakes in the program that were met.", ("component", "error")
        )
        self._tokens = Counter("edge_router_tokens_total", "Tokens, where they are known.", ("tier", "kind"))
        self._holds = Counter(
            "edge_router_session_holds_total",
            "Answers that stayed with a conversation's model.",
            ("tier", "held"),
        )
        self._held = Counter(
            "edge_router_session_tokens_total", "Tokens that no other model had to read again.", ("tier",)
        )
        self._callers = Counter(
            "edge_router_caller_requests_total", "Answers for each caller.", ("caller", "tier")
        )
        self._caller_tokens = Counter(
            "edge_router_caller_tokens_total",
            "Tokens for each caller.",
            ("caller", "tier"),
        )
        self._refused = Counter(
            "edge_router_caller_refusals_total", "What callers' limits did not allow.", ("caller", "error")
        )
        self._score = Histogram("edge_router_score_seconds", "Time to score a query.", ("router",))
        self._first = Histogram("edge_router_first_token_seconds", "Time to the first token.", ("tier",))
        self._total = Histogram("edge_router_answer_seconds", "Time to the end of the answer.", ("tier",))
        self._gauges: list[Gauge] = []

    def add(self, *gauges: Gauge) -> None:
        self._gauges += gauges

    def record(self, record: Record) -> None:
        decision, timings, usage = record.decision, record.timings, record.usage
        tier = decision.model
        with self._lock:
            self._requests.add((tier, str(decision.reason)))
            if decision.tier_model is not None:
                self._tiers.add((decision.tier_model,))
            if record.error is not None:
                self._failures.add((tier, record.error))
            if decision.held is not None:
                self._holds.add((tier, decision.held))
                self._held.add((tier,), decision.held_tokens or 0)
            if usage is not None and decision.reason is not Reason.CACHED:  # which nobody has read or written
                self._tokens.add((tier, "prompt"), usage.prompt_tokens)
                self._tokens.add((tier, "completion"), usage.completion_tokens)
                self._tokens.add((tier, "cached"), usage.cached_tokens)
                if decision.caller is not None:
                    self._caller_tokens.add((decision.caller, tier), usage.total_tokens)
            if decision.caller is not None:
                self._callers.add((decision.caller, tier))
            if record.spent is not None:
                self._tokens.add(("weak", "prompt"), record.spent.prompt_tokens)
                self._tokens.add(("weak", "completion"), record.spent.completion_tokens)
            for histogram, label, milliseconds in (
                (self._score, decision.router or "", timings.score_ms),
                (self._first, tier, timings.ttft_ms),
                (self._total, tier, timings.total_ms),
            ):
                if milliseconds is not None:
                    histogram.add((label,), milliseconds / 1e3)

    def refused(self, caller: str, error: str) -> None:
        """A caller of the configuration was refused what its limits do not allow."""
        with self._lock:
            self._refused.add((caller, error))

    def defect(self, component: str, kind: str) -> None:
        """One mistake in the program was met."""
        with self._lock:
            self._defects.add((component, kind))

    @property
    def _counters(self) -> tuple[Counter, ...]:
        return (
            *(self._requests, self._tiers, self._failures, self._defects),
            *(self._tokens, self._holds, self._held),
            *(self._callers, self._caller_tokens, self._refused),
        )

    def values(self) -> dict[str, list[tuple[Labels, float]]]:
        """Counters and gauges as they are now, by their names; each value behind its labels."""
        with self._lock:
            told: tuple[Counter | Gauge, ...] = (*self._counters, *self._gauges)
            return {each.name: list(each.values()) for each in told}

    def render(self) -> str:
        """Prometheus text format, version 0.0.4."""
        with self._lock:
            parts: list[str] = []
            histograms = (self._score, self._first, self._total)
            metrics: list[Counter | Histogram | Gauge] = [*self._counters, *histograms, *self._gauges]
            for metric in metrics:
                parts += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}"]
                parts += metric.lines()
            return "\n".join(parts) + "\n"


def _line(name: str, labels: Iterator[tuple[str, str]] | Sequence[tuple[str, str]], value: float) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{inner}}} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
