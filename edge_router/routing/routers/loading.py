"""Loading a router that is a graph where it was asked to run, if its scores there are the CPU's."""

from __future__ import annotations

import logging

from edge_router.catalog import RouterCard
from edge_router.errors import InvalidRouter, MissingExtra, ProviderUnavailable
from edge_router.routing.routers.encoder import EncoderRouter
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.routers.providers import AUTO, CPU, GPU_PROVIDERS, named

# Scores of the int8 graph and of the float32 one differ by .0135 at most on every eighth prompt of the
# training pool; what differs by more has computed something else.
AGREEMENT = 0.03
PROBES = (
    "What is the capital of France?",
    "Prove that there are infinitely many primes congruent to 3 modulo 4.",
    "```python\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n```\nHow slow is this, and why?",
    "A shop sells pens at 3 for 2.50 and pads at 4.20 each. " * 20 + "What do 12 pens and 3 pads cost?",
)

logger = logging.getLogger(__name__)


def load(card: RouterCard, *, threads: int, provider: str) -> OnnxRouter | EncoderRouter:
    """The router on `provider`, or on the first GPU provider that works ("auto").

    Falls back to the CPU, with a warning that says why, where "auto" finds none and where the scores are not
    the CPU's. Raises `ProviderUnavailable` and `MissingExtra` for one that was asked for by name.
    """
    kind = EncoderRouter if card.kind == "decision" else OnnxRouter
    cpu = kind(card, threads=threads)
    reasons = []
    for name in GPU_PROVIDERS if provider == AUTO else (provider,):
        if name == CPU:
            return cpu
        try:
            router = kind(card, threads=threads, provider=named(name))
        except (ProviderUnavailable, MissingExtra) as error:
            if provider != AUTO:
                raise
            reasons.append(str(error))
            continue
        except InvalidRouter as error:  # on the CPU it is one
            reasons.append(f"on {name} {error.reason}")
            continue
        pairs = zip(router.score_texts(PROBES), cpu.score_texts(PROBES), strict=True)
        gap = max(abs(one - other) for one, other in pairs)
        if gap <= AGREEMENT:
            return router
        reasons.append(f"{name} gives scores that differ from the CPU's by {gap:.3f}")
    cpu.note = "; ".join(reasons)
    logger.warning("the router %s runs on the CPU: %s", card.name, cpu.note)
    return cpu
