"""The plan with which an engine starts: against what is free at this moment, by a process that holds some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_router.catalog import ModelCard
from edge_router.config.settings import Config
from edge_router.errors import ConfigError, OutOfMemory
from edge_router.parsing.sizes import binary
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.vram.budget import MemoryBudget, memory_budget_for, window_request_of
from edge_router.vram.planner import Plan, Planner, WindowRequest
from edge_router.vram.shapes import ModelShape

LEAST = 1024  # tokens; an engine asked for more does not start with less


@dataclass(frozen=True, slots=True)
class Fitted:
    """`plan` fits; `note` says what had to be changed for that, if anything."""

    plan: Plan
    note: str | None = None


def fit(
    name: str,
    numbers: Mapping[str, object],
    wish: WindowRequest,
    room: MemoryBudget,
    *,
    held: int,
    router_loaded: bool,
    coming: int = 0,
    engine: str = "tvm",
) -> Fitted:
    """What the engine is to allocate for the model that `numbers` (config.json's keys) describe.

    `held` is what this process holds already, in bytes, the router among it where it is loaded; `coming`
    what it takes soon, beside what any plan counts. Where the wish does not fit, the context gets shorter,
    down to 1024 tokens; the model was compiled, so nothing else can change. Raises `OutOfMemory` with what is
    needed and what is free.
    """
    wish = replace(wish, may_slide=False)
    planner = _planner(name, numbers, room, held, router_loaded, coming)
    counted = 0 if room.place.backend.own_memory else held  # of what the plan counts, what is held already
    asked = planner.asked(wish)
    if asked.fits:
        return Fitted(planner.batched(asked, wish))
    best = planner.best(wish)
    if best is None or best.settings.context_window_size < min(LEAST, wish.context_window_size):
        least = planner.smallest_budget(
            replace(wish, context_window_size=min(LEAST, wish.context_window_size))
        )
        raise OutOfMemory(
            engine,
            f"{name} does not fit with a context of {min(LEAST, wish.context_window_size)} tokens",
            needed=least - counted,
            free=max(0, asked.budget - counted),
            budget=None if room.is_share or room.budget >= (room.free or 0) > 0 else room.budget,
        )
    return Fitted(best, _told(asked, best) + _rounding(planner, wish, best))


def _rounding(planner: Planner, wish: WindowRequest, best: Plan) -> str:
    """What keys and values of eight bits would give, where they are had by building anew."""
    if wish.kv_caches != ("auto",) or not planner.rounds:
        return ""
    other = planner.best(replace(wish, kv_caches=("int8",)))
    longer = other.settings.context_window_size if other else 0
    if longer <= best.settings.context_window_size:
        return ""
    return f"; weak.kv_cache=int8 would leave room for {longer}"


def check_possible(config: Config, card: ModelCard, paths: Paths) -> None:
    """That the device could hold a model of which the numbers are known, in a short context and with nothing
    else on it. Raises `OutOfMemory`, before minutes go into what can't be loaded.

    What is free at this moment is no matter here: building takes longer than a moment.
    """
    if not card.config:
        return
    try:
        room = memory_budget_for(config, paths)
    except ConfigError:  # a share of what nobody can tell
        return
    given = None if room.is_share else room.budget
    amounts = [amount for amount in (room.whole, given) if amount is not None]
    if not amounts:
        return
    most, wish = min(amounts), window_request_of(config, card)
    short = replace(wish, context_window_size=min(LEAST, wish.context_window_size), may_slide=False)
    planner = Planner(card.name, ModelShape.of(card.config, card.name), room.place, most)
    needed = planner.smallest_budget(short)
    if needed > most:
        context = short.context_window_size
        reason = f"{card.name} does not fit on {room.device} with a context of {context} tokens"
        raise OutOfMemory(config.weak.engine, reason, needed=needed, free=most, budget=given)


def _planner(
    name: str, numbers: Mapping[str, object], room: MemoryBudget, held: int, router_loaded: bool, coming: int
) -> Planner:
    """The plan counts the whole process, so what it holds already comes on top of what is free."""
    place = replace(room.place, router=0 if router_loaded else room.place.router)
    if place.backend.own_memory:
        budget = room.budget if room.free is None else min(room.budget, room.free)
        return Planner(name, ModelShape.of(numbers, name), place, budget)
    place = replace(place, process=held + coming)
    free = held + (room.free or 0)
    budget = room.budget + held if room.is_share else min(room.budget, free)
    return Planner(name, ModelShape.of(numbers, name), place, budget)


def _told(asked: Plan, best: Plan) -> str:
    was, now = asked.settings, best.settings
    changed = [
        f"{knob} {before} became {after}"
        for knob, before, after in (
            ("context_window_size", was.context_window_size, now.context_window_size),
            ("prefill_chunk_size", was.prefill_chunk_size, now.prefill_chunk_size),
        )
        if before != after
    ]
    return (
        f"{asked.model} would take {binary(asked.total)} and {binary(asked.budget)} are there, so "
        f"{' and '.join(changed)}"
    )
