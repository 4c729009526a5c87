"""What of the settings MLC's engine cannot follow, and how long it takes where nobody knows yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_router.config.settings import Config
from edge_router.engines.local.sampler import SamplingDefaults

_FIRST_TIME = "loading MLC's engine for the first time takes half a minute or more: mlc_llm is large"


def limits(config: Config, defaults: SamplingDefaults) -> Iterator[str]:
    """A line each; `defaults` is how the model's makers sample from it."""
    if defaults.top_k > 1:
        yield f"MLC's engine has no top_k, so the model's own of {defaults.top_k} has no effect"
    if config.weak.tools == "yes":
        yield "MLC's engine can hold no answer to the form of a call, so weak.tools = yes has no effect"
    if config.weak.min_confidence is not None:
        yield (
            "MLC's engine gives the model's own log probabilities at temperature 0, or 1 with a top_p of 1, "
            "and without penalties; weak.min_confidence has no say over other answers"
        )


@contextmanager
def first_time(mark: Path) -> Iterator[str | None]:
    """What to say before it is loaded here for the first time; `mark` remembers that it has been."""
    yield None if mark.exists() else _FIRST_TIME
    with suppress(OSError):  # then it is said again
        mark.touch()
