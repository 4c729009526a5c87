"""Shortening a conversation that no longer fits: the oldest turns go, the system prompt stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Prompt

ANSWER = 512  # tokens to keep free for the answer, where the request does not say how many it wants
_KEPT_ROLES = ("system", "developer")

Prepare = Callable[[ChatRequest], Prompt]


def truncated(request: ChatRequest, prepare: Prepare, window: int) -> tuple[Prompt, int] | None:
    """`request` with as few of its oldest turns left out as make it fit, and how many messages went.

    A quarter of the window at most is kept free for the answer; less when only so the last message fits.
    What is left begins with the user's words, as chat templates want it. None where even the last message
    alone is too long, for a bare prompt, and where tokens can't be counted.
    """
    if request.raw_prompt is not None:
        return None
    starts = _starts(request.messages)
    room = min(request.max_tokens or ANSWER, window // 4)
    prepared = cache(lambda start: prepare(_from(request, start)))  # each way to begin is rendered once
    for most in (window - room, window - 1):
        shorter = _first_that_fits(starts, prepared, most)
        if shorter is not None:
            return shorter, len(request.messages) - len(shorter.request.messages)
    return None


def _starts(messages: tuple[Message, ...]) -> list[int]:
    """Where what is kept may begin: at a user's message; the last message is always kept."""
    last = max((n for n, message in enumerate(messages) if message.role == "user"), default=len(messages) - 1)
    return [n for n, message in enumerate(messages) if n and n <= last and message.role == "user"]


def _first_that_fits(starts: list[int], prepared: Callable[[int], Prompt], most: int) -> Prompt | None:
    """By halves: a later start never takes more tokens."""

    def fits(start: int) -> bool:
        tokens = prepared(start).count
        return tokens is not None and tokens <= most

    if not starts or not fits(starts[-1]):
        return None
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(starts[middle]):
            high = middle
        else:
            low = middle + 1
    return prepared(starts[low])


def _from(request: ChatRequest, start: int) -> ChatRequest:
    kept = tuple(
        message
        for number, message in enumerate(request.messages)
        if number >= start or message.role in _KEPT_ROLES
    )
    return replace(request, messages=kept)
