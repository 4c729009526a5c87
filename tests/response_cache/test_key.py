"""What makes two requests the same, and which are answered from what was kept at all."""

from __future__ import annotations

from dataclasses import fields, replace

from edge_router.chat.events import Answering
from edge_router.chat.message import Message, Text, ToolCall
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    GrammarOutput,
    JsonOutput,
    Need,
    ReasoningOptions,
    ResponseCacheWish,
    SamplingParams,
    SignalRequest,
    Tool,
    ToolChoice,
)
from edge_router.response_cache.key import _ELSEWHERE, is_kept, key_of

BASE = ChatRequest((Message("user", "hi"),), sampling=SamplingParams(temperature=0))
OTHERS: dict[str, tuple[object, ...]] = {
    "messages": (
        (Message("user", "hi "),),
        (Message("assistant", "hi"),),
        (Message("user", "hi", name="ann"),),
        (Message("user", "hi", extra={"a": 1}),),
        (Message("user", (Text("h"), Text("i"))),),
        (Message("user", (Text("hi", {"cache_control": {}}),)),),
        (Message("system", ""), Message("user", "hi")),
        (Message("assistant", (ToolCall("1", "f", "{}"),)), Message("user", "hi")),
        (Message("user", "\ud800"),),
    ),
    "sampling": (
        SamplingParams(),
        SamplingParams(temperature=0.1),
        SamplingParams(temperature=0, seed=0),
        SamplingParams(temperature=0, logit_bias={1: 2.0}),
    ),
    "max_tokens": (1,),
    "stop": (("a",), ("a", "b"), ("ab",)),
    "tools": ((Tool("f"),), (Tool("f", parameters={"type": "object"}),)),
    "tool_choice": (ToolChoice("none"), ToolChoice(parallel=False)),
    "output": (JsonOutput(), JsonOutput({}), JsonOutput({"type": "object"}), GrammarOutput("regex", "a")),
    "reasoning": (ReasoningOptions(True), ReasoningOptions(False), ReasoningOptions(shown=False)),
    "logprobs": (True,),
    "top_logprobs": (1,),
    "continue_final": (True,),
    "raw_prompt": ("hi",),
    "suffix": ("ho",),
    "spoken": (True,),
    "caller": ("ann", "bob"),
    "among": (("eu",),),
    "extra": (
        Extra("openai", {"top_a": 0.1}),
        Extra("ollama", {"top_a": 0.1}),
        Extra("openai", {"top_a": 0.2}),
    ),
}
SAME: dict[str, tuple[object, ...]] = {
    "target": ("weak",),  # told by what is made of it
    "private": (True,),
    "keep": ("cache", "cache_control"),
    "session": ("s",),
    "program": ("zed",),
    "reader": (Answering("big", "eu"),),
    "response_cache": (ResponseCacheWish(max_age_s=5),),
    "names": ({Need.JSON: "format"},),
    "mask": (lambda vocabulary: None,),
    "signals": (SignalRequest(),),
    "extra": (Extra("ollama"), Extra("openai", {"user": "ann", "metadata": {"a": "b"}})),
    "sampling": (SamplingParams(temperature=0.0),),
}


def test_a_field_counts_unless_it_is_known_not_to() -> None:
    names = {each.name for each in fields(ChatRequest)}
    assert {*OTHERS, *SAME} <= names and set(SAME) - {"extra", "sampling"} | {"caller"} == _ELSEWHERE


def test_no_two_that_differ_share_a_key() -> None:
    keys = {key_of(BASE): "nothing"}
    for name, values in OTHERS.items():
        for value in values:
            key = key_of(replace(BASE, **{name: value}))  # type: ignore[arg-type]
            assert key not in keys, (name, value, keys[key])
            keys[key] = name
    for facts in (("weak",), ("strong",), ("strong", "eu"), (None, "mf"), ([True, ["rule"]],)):
        key = key_of(BASE, *facts)
        assert key not in keys, facts
        keys[key] = str(facts)


def test_what_changes_no_answer_changes_no_key() -> None:
    for name, values in SAME.items():
        for value in values:
            assert key_of(replace(BASE, **{name: value})) == key_of(BASE), (name, value)  # type: ignore[arg-type]
    one, other = JsonOutput({"a": 1, "b": [1, 2]}), JsonOutput({"b": [1, 2], "a": 1})
    assert key_of(replace(BASE, output=one)) == key_of(replace(BASE, output=other))


def test_what_is_kept_at_all() -> None:
    assert is_kept(BASE)
    assert is_kept(replace(BASE, output=JsonOutput())) and is_kept(replace(BASE, private=True))
    sampled = replace(BASE, sampling=SamplingParams())
    assert not is_kept(sampled) and is_kept(sampled, sampled=True)
    masked = replace(BASE, mask=lambda vocabulary: None)
    assert not is_kept(masked, sampled=True, tools=True)
    gives_back = replace(
        BASE, messages=(Message("assistant", (ToolCall("1", "f", "{}"),)), Message("user", "?"))
    )
    assert is_kept(gives_back)
