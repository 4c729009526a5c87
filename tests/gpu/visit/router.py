"""Step (f): the router's graph on CUDA, where the installed onnxruntime has it."""

from __future__ import annotations

import time
from typing import Any

from common import Results

PROMPTS = (
    "What is the capital of France?",
    "Prove that every finite integral domain is a field, and say where finiteness is used.",
    "Write a poem about the sea.",
)
CLOSE = 0.02  # of a score


def main() -> None:
    import onnxruntime

    from edge_router.config.settings import Config
    from edge_router.routing.routers import routers

    results = Results("router")
    offered = onnxruntime.get_available_providers()
    results.figures("onnxruntime", version=onnxruntime.__version__, providers=offered)
    scores: dict[str, list[float]] = {}
    providers = ["cpu", *(["cuda"] if "CUDAExecutionProvider" in offered else [])]
    for provider in providers:
        with results.trying(f"bert on {provider}"):
            on = Config().replace(**{"router.provider": provider})
            router: Any = routers(config=on).get("bert")(threads=4)
            scores[provider] = router.score_texts(PROMPTS)
            begin = time.perf_counter()
            for _ in range(20):
                router.score_texts(PROMPTS[:1])
            results.figures(
                provider, runs_on=router.provider, ms=round(50 * (time.perf_counter() - begin), 3)
            )
            results.check(f"bert on {provider}", all(0 <= score <= 1 for score in scores[provider]))
    if "cuda" in scores:
        apart = max(abs(a - b) for a, b in zip(scores["cpu"], scores["cuda"], strict=True))
        results.check("CUDA's scores are the processor's", apart < CLOSE, apart=apart)
    else:
        results.figures("cuda", not_run="this onnxruntime has no provider for CUDA")


if __name__ == "__main__":
    main()
