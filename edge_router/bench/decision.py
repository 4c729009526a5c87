"""What rules, guard and the look-up of the session add to a decision: on the same prompts, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from edge_router.bench.latency import Latency, timed
from edge_router.bench.router import decision
from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.config.sections import GuardConfig, SessionsConfig
from edge_router.control.egress import Egress
from edge_router.control.sessions import Sessions
from edge_router.guard.inspection import Guard
from edge_router.records import dataclass
from edge_router.routing.routers.base import Router
from edge_router.routing.rules.file import parse_rules
from edge_router.routing.rules.rule import Rule
from edge_router.types import Progress, SilentProgress

LENGTH = 2000  # characters of a prompt
_WARM_UP = 20
_PROMPTS = {
    "prose": "Explain why the following proof holds, step by step, and say where it would fail if n were "
    "even: suppose that p divides a product of 27 integers; then it divides one of them, as was shown. ",
    "code": "def total(rows: list[Row], key: str = 'price') -> float:\n"
    "    found = [getattr(row, key) for row in rows]\n"
    "    if not found:\n        raise ValueError(f'no {key} in {len(rows)} rows')\n"
    "    return sum(found) / len(found)\n\n",
    "German": "Wie groß ist der Abstand zwischen den beiden Städten, und was hätte er über die Brücke "
    "gewußt, hätte ihm jemand den Weg gezeigt? ",
}
_SAMPLE = """
[[rule]]
name = "customers {n}"
words = ["customer {n}", "client-{n}"]
then = "local_only"
[[rule]]
name = "accounts {n}"
pattern = '(?i)\\bacct{n}[- ]?\\d{{6}}\\b'
then = "redact"
"""
_TURNS = (Message("user", "Hello."), Message("assistant", "Hello, what can I do for you?"))
_MORE = "".join(
    f'[[rule]]\n{condition}\nthen = "weak"\n'
    for condition in (
        'content = "code"',
        'language = "tr"',
        'hours = "03:00-03:01"',
        'program = "nobody"',
        'metadata = {team = "none"}',
    )
)


@dataclass(frozen=True, slots=True)
class DecisionBench:
    """By kind of prompt: the decision alone, and what goes before it."""

    rules: int
    alone: Mapping[str, Latency]
    before: Mapping[str, Latency]

    def to_dict(self) -> dict[str, object]:
        return {
            "rules": self.rules,
            "characters": LENGTH,
            "prompts": {
                kind: {
                    "decision_p50_ms": round(self.alone[kind].p50, 4),
                    "before_p50_ms": round(self.before[kind].p50, 4),
                    "before_p95_ms": round(self.before[kind].p95, 4),
                }
                for kind in self.alone
            },
        }


def sample_rules() -> tuple[Rule, ...]:
    """Fifteen of every kind, none of which holds."""
    text = "".join(_SAMPLE.format(n=n) for n in range(5)) + _MORE
    return parse_rules(text, Path("rules.toml"))


def bench_decision(
    router: Router,
    settings: GuardConfig,
    rules: Sequence[Rule] = (),
    rounds: int = 500,
    progress: Progress | None = None,
) -> DecisionBench:
    """`rules`: those of `sample_rules` where there are none."""
    rules = tuple(rules) or sample_rules()
    egress, sessions = Egress(Guard(settings), lambda: rules), Sessions(SessionsConfig())
    alone: dict[str, Latency] = {}
    before: dict[str, Latency] = {}
    with (progress or SilentProgress()).step("decide", total=len(_PROMPTS), unit="prompts") as step:
        for kind, words in _PROMPTS.items():
            text = _long(words)
            request = ChatRequest((*_TURNS, Message("user", text)))
            _note(sessions, request)
            first: list[float] = []
            second: list[float] = []
            for _ in range(_WARM_UP + rounds):
                first.append(timed(partial(decision, router, text)))
                second.append(timed(partial(_asked, egress, sessions, request)))
            alone[kind] = Latency.of(first[_WARM_UP:])
            before[kind] = Latency.of(second[_WARM_UP:])
            step.advance()
    return DecisionBench(len(rules), alone, before)


def _note(sessions: Sessions, request: ChatRequest) -> None:
    """What has been answered before."""
    before = replace(request, messages=request.messages[:-2])
    events = sessions.noted(
        iter([Finished("stop")]), sessions.look(before), before, ("weak", ""), nullcontext
    )
    for _ in events:
        pass


def _asked(egress: Egress, sessions: Sessions, request: ChatRequest) -> object:
    """What the controller does before it asks for a score."""
    return egress.inspect(request, egress.judge(request)), sessions.look(request)


def prose() -> str:
    """One of its prompts."""
    return _long(_PROMPTS["prose"])


def _long(words: str) -> str:
    return (words * (LENGTH // len(words) + 1))[:LENGTH]
