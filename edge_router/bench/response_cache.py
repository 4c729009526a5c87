"""An answer that is given again, from the request to its end, in turns with the decision alone."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from edge_router.bench.latency import Latency, timed
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.control.controller import CoreController
from edge_router.engines.scripted import ScriptedEngine
from edge_router.records import dataclass
from edge_router.routing.routers.base import Router
from edge_router.system.paths import Paths
from edge_router.types import Reason

WORDS = 200  # of the answer
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class ResponseCacheBench:
    """`alone`: deciding anew, the guard included. `disk`, `memory`: a kept answer, with its row in the
    ledger."""

    characters: int
    alone: Latency
    disk: Latency
    memory: Latency

    def to_dict(self) -> dict[str, object]:
        return {
            "characters": self.characters,
            "decision_p50_ms": round(self.alone.p50, 4),
            **{
                f"{name}_{way}_ms": round(getattr(latency, way), 4)
                for name, latency in (("disk", self.disk), ("memory", self.memory))
                for way in ("p50", "p95")
            },
        }


def bench_response_cache(router: Router, text: str, config: Config, rounds: int = 500) -> ResponseCacheBench:
    """`config`: what else is asked before a decision; models are scripted, files in a folder of their own."""
    request = ChatRequest((Message("user", text),), sampling=SamplingParams(temperature=0))
    alone: list[float] = []
    kept: dict[str, list[float]] = {"disk": [], "memory": []}
    with tempfile.TemporaryDirectory() as folder:
        made = {mode: _controller(router, config, mode, Path(folder) / mode) for mode in kept}
        try:
            for controller in made.values():
                list(controller.start(request))
            for _ in range(_WARM_UP + rounds):
                alone.append(timed(partial(made["memory"].decision, request)))
                for mode, seconds in kept.items():
                    seconds.append(timed(partial(_again, made[mode], request)))
        finally:
            for controller in made.values():
                controller.close()
    disk, memory = (Latency.of(kept[mode][_WARM_UP:]) for mode in ("disk", "memory"))
    return ResponseCacheBench(len(text), Latency.of(alone[_WARM_UP:]), disk, memory)


def _controller(router: Router, config: Config, mode: str, folder: Path) -> CoreController:
    return CoreController(
        config.replace(**{"response_cache.mode": mode}),
        weak=ScriptedEngine(default="word " * WORDS),
        router=router,
        paths=Paths.under(folder),
    )


def _again(controller: CoreController, request: ChatRequest) -> None:
    answer = controller.start(request)
    for _ in answer:
        pass
    assert answer.decision.reason is Reason.CACHED
