"""What is left of a caller's limits, as headers: OpenAI's, and Anthropic's own where that is spoken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edge_router.callers.allowance import Standing
from edge_router.surfaces.anthropic.parse import NAME as ANTHROPIC


def rate_headers(standing: Standing, protocol: str, clock: Callable[[], float] = time.time) -> dict[str, str]:
    """None where there is no limit."""
    told: dict[str, str] = {}
    for what, found in (("requests", standing.requests), ("tokens", standing.tokens)):
        if found is None:
            continue
        if protocol == ANTHROPIC:
            full = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(math.ceil(clock() + found.full_s)))
            values = {"limit": str(found.limit), "remaining": str(found.left), "reset": full}
            told |= {f"anthropic-ratelimit-{what}-{name}": value for name, value in values.items()}
        else:
            values = {"limit": str(found.limit), "remaining": str(found.left), "reset": _span(found.full_s)}
            told |= {f"x-ratelimit-{name}-{what}": value for name, value in values.items()}
    return told


def _span(seconds: float) -> str:
    """As OpenAI writes it: 59.5s."""
    return f"{round(seconds, 1):g}s"
