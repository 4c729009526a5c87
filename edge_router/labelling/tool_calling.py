"""Asking a model the cases of the suite, and counting what was right."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from statistics import fmean

from edge_router.chat.reply import Reply, collect
from edge_router.chat.request import ChatRequest, ReasoningOptions, SamplingParams
from edge_router.engines.base import Engine, answered
from edge_router.labelling.tool_cases import Arguments, ToolCase
from edge_router.parsing import strict_json
from edge_router.store.tool_skill import Skill
from edge_router.types import Progress, SilentProgress

LONGEST = 256  # tokens of an answer


def measure(engine: Engine, cases: Sequence[ToolCase], progress: Progress | None = None) -> Skill:
    """Greedily and without thoughts, as a router's weak model answers. Raises what the engine raises."""
    right: dict[str, list[bool]] = {name: [] for name in ("functions", "arguments", "refusals", "results")}
    with (progress or SilentProgress()).step("ask", total=len(cases), unit="cases") as step:
        for case in cases:
            reply = collect(answered(engine, _request(case), threading.Event()))
            for name, good in judged(case, reply).items():
                right[name].append(good)
            step.advance()
    shares = {name: fmean(found) if found else 0.0 for name, found in right.items()}
    return Skill(engine.model_id, len(cases), **shares)


def judged(case: ToolCase, reply: Reply) -> Mapping[str, bool]:
    """What of a reply is right, by the names of `Skill`."""
    if case.kind == "refusal":
        return {"refusals": not reply.calls and bool(reply.text.strip())}
    if case.kind == "result":
        return {"results": not reply.calls and case.said in reply.text.replace(",", "")}
    function = len(reply.calls) == 1 and reply.calls[0].name == case.name
    fits = function and _same(reply.calls[0].arguments, case.arguments or {})
    return {"functions": function, "arguments": fits}


def _request(case: ToolCase) -> ChatRequest:
    return ChatRequest(
        case.messages,
        tools=case.tools,
        sampling=SamplingParams(temperature=0),
        max_tokens=LONGEST,
        reasoning=ReasoningOptions(enabled=False),
    )


def _same(written: str, wanted: Arguments) -> bool:
    """Whether they say the same, but for upper case and white space; nothing is left out or made up."""
    try:
        found = strict_json.parse(written)
    except strict_json.NotJson:
        return False
    if not isinstance(found, Mapping) or found.keys() != wanted.keys():
        return False
    return all(_plain(found[name]) == _plain(value) for name, value in wanted.items())


def _plain(value: object) -> object:
    if isinstance(value, str):
        return " ".join(value.casefold().strip(" .!").split())
    if isinstance(value, bool):  # which is 1 or 0 to Python
        return str(value)
    return float(value) if isinstance(value, int | float) else value
