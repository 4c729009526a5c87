"""The suite that measures how well a model calls tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_router.chat.events import Event, Finished, TextDelta, ToolCallArguments, ToolCallStart
from edge_router.chat.message import Text, ToolCall
from edge_router.chat.reply import Reply
from edge_router.chat.request import ChatRequest
from edge_router.engines.local.forms.json_schema import followable
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import InvalidData
from edge_router.labelling.tool_calling import judged, measure
from edge_router.labelling.tool_cases import OFFERED, ToolCase, cases
from edge_router.store import ArtifactStore
from edge_router.store.tool_skill import FILE, KIND, LEAST, Skill, find, find_of, keep
from edge_router.system.paths import Paths


def skill(**shares: float) -> Skill:
    return Skill("small", 80, **{**dict.fromkeys(LEAST, 1.0), **shares})


def right(case: ToolCase) -> list[Event]:
    """What a model says that knows everything."""
    if case.kind == "call":
        written = json.dumps(case.arguments)
        return [ToolCallStart(0, "c", case.name), ToolCallArguments(0, written), Finished("tool_calls")]
    return [TextDelta(f"It is {case.said}." if case.said else "Hm."), Finished("stop")]


def test_cases_are_different_the_same_each_time_and_can_be_held() -> None:
    found = cases(80)
    assert found == cases(80) and found[:20] == cases(20) and found != cases(80, seed=1)
    kinds = [case.kind for case in found]
    assert (kinds.count("call"), kinds.count("refusal"), kinds.count("result")) == (40, 20, 20)
    assert len({case.messages[0].text for case in found if case.kind == "call"}) == 40
    for case in found:
        assert len({tool.name for tool in case.tools}) == OFFERED
        assert all(followable(tool.parameters, lambda pattern: None) for tool in case.tools)
        if case.kind == "call":
            (tool,) = (tool for tool in case.tools if tool.name == case.name)
            assert tool.parameters is not None and case.arguments is not None
            assert case.arguments.keys() == set(tool.parameters["required"])  # type: ignore[call-overload]
        if case.kind == "result":
            assert case.said in case.messages[-1].text


def test_who_knows_everything_passes_and_who_always_calls_does_not() -> None:
    asked = iter(cases(40))
    perfect = measure(ScriptedEngine(default=lambda request: right(next(asked)), model_id="small"), cases(40))
    assert perfect == Skill("small", 40, 1.0, 1.0, 1.0, 1.0) and perfect.passed

    def eager(request: ChatRequest) -> list[Event]:
        return [
            ToolCallStart(0, "c", request.tools[0].name),
            ToolCallArguments(0, "{}"),
            Finished("tool_calls"),
        ]

    found = measure(ScriptedEngine(default=eager), cases(40))
    assert found.refusals == found.results == found.arguments == 0 and 0 < found.functions < 0.7
    assert not found.passed


def test_what_is_right_is_judged_by_what_it_says() -> None:
    case = next(case for case in cases(40) if case.kind == "call" and case.name == "get_weather")
    city = case.arguments["city"]  # type: ignore[index]
    for name, written, functions, arguments in (
        ("get_weather", {"city": city}, True, True),
        ("get_weather", {"city": f" {city.upper()}. "}, True, True),  # type: ignore[attr-defined]
        ("get_weather", {"city": "Atlantis"}, True, False),
        ("get_weather", {"city": city, "more": 1}, True, False),
        ("get_weather", {}, True, False),
        ("set_timer", {"city": city}, False, False),
    ):
        reply = Reply((ToolCall("c", name, json.dumps(written)),), "tool_calls")
        assert judged(case, reply) == {"functions": functions, "arguments": arguments}, written
    two = Reply((ToolCall("c", "get_weather", json.dumps({"city": city})),) * 2, "tool_calls")
    assert judged(case, two) == {"functions": False, "arguments": False}
    broken = Reply((ToolCall("c", "get_weather", '{"city": '),), "tool_calls")
    assert judged(case, broken) == {"functions": True, "arguments": False}
    assert judged(case, Reply((Text(str(city)),), "stop")) == {"functions": False, "arguments": False}


def test_numbers_are_the_same_however_they_are_written_and_truth_is_no_number() -> None:
    timer = next(case for case in cases(80) if case.name == "set_timer")
    minutes = timer.arguments["minutes"]  # type: ignore[index]
    assert judged(timer, Reply((ToolCall("c", "set_timer", f'{{"minutes": {minutes}.0}}'),), "stop"))[
        "arguments"
    ]
    light = next(case for case in cases(200) if case.name == "set_light")
    number = {**light.arguments, "on": int(light.arguments["on"])}  # type: ignore[dict-item, call-overload, index]
    assert not judged(light, Reply((ToolCall("c", "set_light", json.dumps(number)),), "stop"))["arguments"]


def test_what_was_measured_is_kept_with_the_weights(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    assert find(paths, "abc") is None and find_of(paths, "small") is None
    keep(skill(refusals=0.5), paths, "abc")
    assert find(paths, "abc") == find_of(paths, "small") == skill(refusals=0.5)
    file = keep(skill(), paths, "abc")
    assert find(paths, "abc") == skill() and find(paths, "abd") is None and find_of(paths, "big") is None
    file.write_text("{}", encoding="utf-8")  # as nobody who writes artifacts does
    assert find(paths, "abc") is None


def test_one_of_another_version_is_an_error(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    inputs = {"model": "small", "weights": "abc"}
    for text in ('{"format": 9}', '{"format": 1, "model": "small"}', "no JSON"):
        store = ArtifactStore(paths.artifacts)
        store.plan_removal(kind=KIND, keys=["abc"]).execute()
        store.obtain(
            KIND, "abc", lambda folder, text=text: (folder / FILE).write_text(text) and None, inputs=inputs
        )
        with pytest.raises(InvalidData):
            find(paths, "abc")


def test_it_says_what_is_not_good_enough() -> None:
    assert skill().lacking == () and skill(functions=0.5, results=0.1).lacking == ("functions", "results")
