"""How long a decision takes: text in, decision out, with the making of the input and the graph apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from edge_router.bench.latency import Latency, timed
from edge_router.chat.message import Message
from edge_router.control.policy import Route, Situation, decide
from edge_router.records import dataclass
from edge_router.routing.routers.base import Router
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.types import Progress, SilentProgress

LENGTHS = (100, 300, 1000, 3000, 10_000, 100_000)  # characters: the upper ends of the rows by length
_WARM_UP = 20
_ROUNDS = 20  # over the built-in prompts, which are few
_WORDS = (
    "Explain why the following proof holds, step by step, and say where it would fail if n were even: "
    "suppose that p divides a product of integers; then it divides one of them. "
)


@dataclass(frozen=True, slots=True)
class RouterBench:
    """`inputs` and `graph`: of a router that is an ONNX graph, making its input and running it; else None.

    `by_length`: prompts of up to so many characters.
    """

    router: str
    provider: str
    whole: Latency
    inputs: Latency | None
    graph: Latency | None
    by_length: tuple[tuple[int, Latency], ...]

    def to_dict(self) -> dict[str, object]:
        whole = self.whole
        found: dict[str, object] = {
            "router": self.router,
            "provider": self.provider,
            "p50_ms": round(whole.p50, 3),
            "p95_ms": round(whole.p95, 3),
            "p99_ms": round(whole.p99, 3),
            "n": whole.n,
        }
        if self.inputs and self.graph:
            found |= {"inputs_p50_ms": round(self.inputs.p50, 3), "graph_p50_ms": round(self.graph.p50, 3)}
        return found


def bench_router(
    router: Router, prompts: Sequence[str] = (), progress: Progress | None = None
) -> RouterBench:
    """One decision per prompt, one after the other; without any, built-in ones of every length."""
    texts = list(prompts) or sample() * _ROUNDS
    progress = progress or SilentProgress()
    for text in texts[:_WARM_UP]:
        decision(router, text)
    whole: list[float] = []
    inputs: list[float] = []
    graph: list[float] = []
    with progress.step("decide", total=len(texts), unit="prompts") as step:
        for text in texts:
            whole.append(timed(partial(decision, router, text)))
            if isinstance(router, OnnxRouter):
                inputs.append(timed(partial(router.prepare, text)))
                graph.append(timed(partial(router.run, router.prepare(text))))
            step.advance()
    lengths = np.digitize([len(text) for text in texts], LENGTHS, right=True)
    rows = [(upper, np.array(whole)[lengths == k].tolist()) for k, upper in enumerate(LENGTHS)]
    return RouterBench(
        router=router.name,
        provider=router.provider if isinstance(router, OnnxRouter) else "none",
        whole=Latency.of(whole),
        inputs=Latency.of(inputs) if inputs else None,
        graph=Latency.of(graph) if graph else None,
        by_length=tuple((upper, Latency.of(seconds)) for upper, seconds in rows if seconds),
    )


def sample() -> list[str]:
    """A prompt for every row by length."""
    return [(_WORDS * (length // len(_WORDS) + 1))[:length] for length in LENGTHS]


def decision(router: Router, text: str) -> object:
    """What the controller does with a query before any model is asked."""
    score = router.score((Message("user", text),))
    return decide(
        Route(router=router.name), score, router.default_threshold, Situation(strong_configured=True)
    )
