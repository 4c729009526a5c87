"""What the dashboard's page asks for, as JSON: traffic, how things stand, a decision explained, a setting."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge_router.api.client import Controller
from edge_router.control.reasons import why
from edge_router.errors import InvalidRequest
from edge_router.records import dataclass
from edge_router.routing.thresholds.prices import Prices
from edge_router.routing.thresholds.traffic_summary import summarized
from edge_router.server.dashboard.decision_rows import row_of
from edge_router.server.dashboard.facts import facts
from edge_router.server.dashboard.live import LiveStream
from edge_router.server.http.body import read
from edge_router.server.reply import json_reply
from edge_router.server.running import RunningAnswers

RECENT = 100  # decisions that a page begins with
MOST_STREAMS = 16
LONGEST = 100_000  # characters of a prompt that is explained
DAY_S = 86_400.0
THRESHOLD = "router.threshold"
_NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class SavedSettings:
    """Where settings were written; `notes` are what there is to tell of it, a sentence each."""

    file: Path
    notes: tuple[str, ...] = ()


Save = Callable[[Mapping[str, object]], SavedSettings]  # keys of settings to values; raises `EdgeRouterError`


class DataRoutes:
    """The handlers, over one controller. Who asks has been let in."""

    def __init__(self, controller: Controller, running: RunningAnswers, save: Save | None) -> None:
        self._controller, self._running, self._save = controller, running, save
        self._config = controller.config
        self._row = partial(row_of, prompts=self._config.ledger.store_prompts)
        self._streams = 0
        self._summing = asyncio.Lock()  # many pages take no more of the machine than one

    async def facts(self, request: Request) -> Response:
        return await _told(partial(facts, self._controller))

    async def traffic(self, request: Request) -> Response:
        """`days`: only the last so many."""
        days = _days(request.query_params.get("days"))
        since = 0.0 if days is None else time.time() - days * DAY_S
        async with self._summing:
            return await _told(partial(self._traffic, since))

    def _traffic(self, since: float) -> dict[str, object]:
        config, ledger = self._config, self._controller.recorder.ledger
        if ledger is None:
            return {"off": "Nothing is remembered, for ledger.enabled is false."}
        told, prices = summarized(config, ledger, since=since).to_dict(), Prices.highest(config)
        money = None
        if prices is not None:
            source = prices.source or "your settings"
            money = {"price_in": prices.price_in, "price_out": prices.price_out, "source": source}
        return told | {
            "prices": money,
            "router": config.router.name,
            "fixed_by": self._kept(),
        }

    def _kept(self) -> str | None:
        """Why the threshold is not to be set from here; None where it is."""
        if self._config.tiers:
            return "There are more than two models, whose thresholds are set together: tiers."
        if self._config.router.strong_share is not None:
            return "router.strong_share holds a share, and moves the threshold itself."
        if self._save is None:
            return "The program that runs this server has no file of settings: set router.threshold there."
        return None

    async def decisions(self, request: Request) -> Response:
        """The last ones, newest first."""

        def rows() -> dict[str, object]:
            ledger = self._controller.recorder.ledger
            recent = () if ledger is None else ledger.recent(RECENT)
            return {"decisions": [self._row(each) for each in recent]}

        return await _told(rows)

    async def events(self, request: Request) -> Response:
        """Decisions as they are made. Raises `HTTPException` 503 for too many pages."""
        if self._streams >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} pages are open already. Close one of them.")
        return LiveStream(self._controller.recorder, self._row, self._running, self._counted)

    def _counted(self, more: int) -> None:
        self._streams += more

    async def explain(self, request: Request) -> Response:
        """Where a prompt would go, and why: no model answers, and nothing is recorded."""
        prompt, private = await read(request, _prompt, self._running)

        def explained() -> dict[str, object]:
            start = time.perf_counter()
            decision = self._controller.route(prompt, private=private)
            took = (time.perf_counter() - start) * 1e3
            return {**decision.to_dict(), "router": decision.router, "why": why(decision), "ms": took}

        return await _told(explained)

    async def threshold(self, request: Request) -> Response:
        """Write the threshold to the settings, where it counts from the next start on."""
        value, save = await read(request, _threshold, self._running), self._save
        kept = self._kept()
        if kept is not None or save is None:
            raise HTTPException(409, kept or "")
        saved = await run_in_threadpool(save, {THRESHOLD: value})
        notes = list(saved.notes)
        if self._config.origin(THRESHOLD) == "argument":
            notes.insert(0, f"This server was started with a {THRESHOLD}, which counts before the file's.")
        return json_reply({"file": str(saved.file), "notes": notes, "threshold": value})


async def _told(read: Callable[[], Mapping[str, object]]) -> Response:
    return json_reply(await run_in_threadpool(read), headers=_NO_STORE)


def _days(text: str | None) -> float | None:
    try:
        days = None if text is None else float(text)
    except ValueError:
        days = math.nan
    if days is not None and not 0 <= days <= 36_500:
        raise InvalidRequest("days", "must be a number of days")
    return days


def _prompt(body: dict[str, object]) -> tuple[str, bool]:
    prompt, private = body.get("prompt"), body.get("private", False)
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidRequest("prompt", "must be a text")
    if len(prompt) > LONGEST:
        raise InvalidRequest("prompt", f"must be no longer than {LONGEST:,} characters")
    if not isinstance(private, bool):
        raise InvalidRequest("private", "must be true or false")
    return prompt, private


def _threshold(body: dict[str, object]) -> float:
    value = body.get("threshold")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidRequest("threshold", "must be a number from 0 to 1")
    return float(value)
