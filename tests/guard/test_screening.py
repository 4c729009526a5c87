"""Requests looked through, and what is taken out of them."""

from __future__ import annotations

import base64
from dataclasses import fields, replace

import pytest

from edge_router.chat.message import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from edge_router.chat.request import (
    ChatRequest,
    Extra,
    GrammarOutput,
    HostedTool,
    JsonOutput,
    SamplingParams,
    Tool,
    ToolChoice,
)
from edge_router.config.sections import GuardConfig
from edge_router.control.egress import Egress
from edge_router.errors import Withheld
from edge_router.guard.detectors import MachineIdentity
from edge_router.guard.inspection import Guard, Inspection
from edge_router.guard.screening import texts_of

KEY = "sk-proj-" + "aB3" * 8
MAIL = "ann@example.org"
FOUND = ("a key or password (OpenAI)",)
ASKED = ChatRequest((Message("user", "Hello."),))


class Look(Egress):
    def found(self, request: ChatRequest) -> Inspection:
        return self.inspect(request, self.judge(request))


def guard(**settings: str) -> Look:
    return Look(Guard(GuardConfig(**settings), MachineIdentity("/home/ann", ("annas-desk",))))  # type: ignore[arg-type]


def with_parts(*parts: object) -> ChatRequest:
    return replace(ASKED, messages=(Message("user", parts),))  # type: ignore[arg-type]


# Every place of a request that is sent, each with the same word in it.
PLACES = {
    "text": with_parts(Text(f"My {KEY}.")),
    "text's extra": with_parts(Text("Hi", {"cache_control": {"note": [KEY]}})),
    "image": with_parts(Image(f"https://example.org/a.png?key={KEY}")),
    "audio": with_parts(Audio("UklGRg==", "wav", {"note": KEY})),
    "file's name": with_parts(File("https://example.org/a", name=f"{KEY}.txt")),
    "thoughts": with_parts(Reasoning(f"He said {KEY}")),
    "refusal": with_parts(Refusal(KEY)),
    "call": with_parts(ToolCall("call_1", "f", f'{{"a": ["x\\n{KEY}"]}}')),
    "broken call": with_parts(ToolCall("call_1", "f", f'{{"a": "{KEY}')),
    "call that says it twice": with_parts(ToolCall("call_1", "f", f'{{"a": "{KEY}", "a": "x"}}')),
    "free call": with_parts(ToolCall("call_1", "f", f"cat {KEY}", free=True)),
    "result": with_parts(ToolResult("call_1", (Text(f"KEY={KEY}"),))),
    "foreign": with_parts(Foreign("thing", {"inner": {"deep": [KEY]}})),
    "name": replace(ASKED, messages=(Message("user", "Hi", name=KEY),)),
    "message's extra": replace(ASKED, messages=(Message("user", "Hi", extra={"x": KEY}),)),
    "stop": replace(ASKED, stop=(KEY,)),
    "tool": replace(ASKED, tools=(Tool("f", f"Use {KEY}"),)),
    "schema": replace(ASKED, tools=(Tool("f", parameters={"properties": {"a": {"default": KEY}}}),)),
    "tool's form": replace(
        ASKED, tools=(Tool("f", free=True, form=GrammarOutput("lark", f'start: "{KEY}"')),)
    ),
    "hosted tool": replace(ASKED, tools=(HostedTool("mcp", {"headers": {"auth": KEY}}),)),
    "choice": replace(ASKED, tool_choice=ToolChoice("required", (KEY,))),
    "output": replace(ASKED, output=JsonOutput({"enum": [KEY]})),
    "session": replace(ASKED, session=KEY),
    "raw prompt": replace(ASKED, raw_prompt=f"export K={KEY}"),
    "extra": replace(ASKED, extra=Extra("openai", {"metadata": {"k": KEY}, "user": "ann"})),
}


def test_no_place_of_a_request_is_passed_over() -> None:
    for place, request in PLACES.items():
        assert guard().found(request).stays == ("a key or password (OpenAI)",), place
        released, vault = guard(secrets="redact").released(request)
        assert KEY not in repr(released), place
        assert vault.values == {"[SECRET_1]": KEY}, place
        assert repr(released).count("[SECRET_1]") == repr(request).count(KEY), place


def test_what_cannot_be_taken_out_keeps_the_question_here() -> None:
    note = base64.b64encode(f"the key of the build is {KEY}\n".encode() * 40).decode()
    for place, request in {
        "key of an object": replace(ASKED, extra=Extra("openai", {"metadata": {KEY: 1}})),
        "file": with_parts(File(f"data:text/plain;base64,{note}")),
        "small file": with_parts(File(f"data:text/plain;base64,{note[:120]}")),
        "number": with_parts(ToolCall("c", "f", '{"card": 4111111111111111}')),
        "count": replace(ASKED, sampling=SamplingParams(seed=4111111111111111)),
    }.items():
        with pytest.raises(Withheld) as error:
            guard(secrets="redact", cards="redact").released(request)
        assert KEY not in str(error.value), place
        assert error.value.found, place


def test_pictures_are_no_words() -> None:
    noise = base64.b64encode(bytes(range(256)) * 4000).decode()
    assert guard(level="strict").found(with_parts(Image(f"data:image/png;base64,{noise}"))).found == ()


def test_signatures_are_no_keys_and_long_keys_are() -> None:
    signature = "A" * 200 + "-sk-" + "aB3" * 20 + "A" * 200
    signed = with_parts(Reasoning("Hm.", opaque={"signature": signature}), Text(f"{MAIL} asks"))
    released, _ = guard(level="strict").released(signed)
    assert released.messages[0].parts[0] == signed.messages[0].parts[0]
    assert guard().found(with_parts(Text("sk-proj-" + "aB3" * 100))).stays
    coded = base64.b64encode(f"the key of the build is {KEY}\n".encode() * 9).decode()
    released, vault = guard(secrets="redact").released(with_parts(ToolResult("c", (Text(coded),))))
    assert vault.values == {"[SECRET_1]": coded} and coded not in repr(released)


def test_the_same_value_has_the_same_name_in_every_turn() -> None:
    look = guard(emails="redact")
    first = replace(ASKED, messages=(Message("user", f"{MAIL}, bob@example.org and {MAIL}"),))
    once, _ = look.released(first)
    then = replace(
        first, messages=(*first.messages, Message("assistant", "cleo@example.org"), Message("user", MAIL))
    )
    twice, vault = look.released(then)
    assert once.messages[0].text == "[EMAIL_1], [EMAIL_2] and [EMAIL_1]"
    assert [each.text for each in twice.messages] == [once.messages[0].text, "[EMAIL_3]", "[EMAIL_1]"]
    assert vault.values == {
        "[EMAIL_1]": MAIL,
        "[EMAIL_2]": "bob@example.org",
        "[EMAIL_3]": "cleo@example.org",
    }


def test_a_placeholder_that_somebody_wrote_stands_for_nothing() -> None:
    released, vault = guard(emails="redact").released(with_parts(Text(f"[EMAIL_1] is not {MAIL}")))
    assert released.messages[0].text == "[EMAIL_1] is not [EMAIL_2]"
    assert vault.values == {"[EMAIL_2]": MAIL}


def test_levels_say_what_is_done() -> None:
    text = f"{MAIL} +49 171 2345678 /home/ann/x annas-desk"
    assert guard().found(with_parts(Text(text))).found == ()
    released, _ = guard(level="strict").released(with_parts(Text(text)))
    assert released.messages[0].text == "[EMAIL_1] [PHONE_1] [HOME_1]/x [HOST_1]"
    assert guard(level="off").released(PLACES["text"])[0] is PLACES["text"]
    assert guard(level="strict", emails="allow").released(with_parts(Text(MAIL)))[1].values == {}
    assert guard(level="off", emails="local").found(with_parts(Text(f"{MAIL} {MAIL}"))).stays == (
        "an e-mail address, 2 times",
    )


def test_a_request_that_is_clean_is_the_same_one() -> None:
    assert guard(level="strict").released(ASKED)[0] is ASKED


def test_what_nobody_has_thought_of_does_not_pass_unseen() -> None:
    with pytest.raises(TypeError):
        guard().found(replace(ASKED, extra=Extra("openai", {"x": object()})))


def test_every_field_of_a_request_is_looked_through_or_never_sent() -> None:
    marked = {each.name: f"mark of {each.name}" for each in fields(ChatRequest)}
    sent = set(texts_of(ChatRequest(**marked)))  # type: ignore[arg-type]
    assert set(marked) - {text.removeprefix("mark of ") for text in sent} == {
        *("target", "private", "program", "reader", "mask", "signals", "names", "keep")
    }


def said(*texts: tuple[str, str]) -> ChatRequest:
    return replace(ASKED, messages=tuple(Message(role, text) for role, text in texts))  # type: ignore[arg-type]


def test_what_is_split_over_texts_is_found_and_stays() -> None:
    card = "4111 1111 1111 1111"
    for name, request in {
        "two parts": with_parts(Text(f"it is {KEY[:12]}"), Text(f"{KEY[12:]}, why?")),
        "three parts": with_parts(Text(f"it is {KEY[:12]}"), Text(KEY[12:18]), Text(KEY[18:])),
        "two messages": said(("user", KEY[:12]), ("user", KEY[12:])),
        "an answer between": said(("user", f"is {KEY[:12]}\n"), ("assistant", "Go on."), ("user", KEY[12:])),
        "the answer goes on": said(("user", "go on: " + KEY[:12]), ("assistant", KEY[12:])),
        "a result": with_parts(ToolResult("c", (Text(KEY[:12]), Text(KEY[12:])))),
        "a card": said(("user", "charge " + card[:9]), ("assistant", "And?"), ("user", card[9:])),
    }.items():
        assert len(guard().found(request).stays) == 1, name
        with pytest.raises(Withheld):
            guard(secrets="redact", cards="redact").released(request)


def test_texts_that_only_follow_each_other_are_no_key() -> None:
    for request in (
        said(("user", "What is a good password:"), ("assistant", "Tr0ub4dor33x")),
        said(("user", "They begin with sk-"), ("assistant", "image-processing-toolkit, do they?")),
        said(("user", "order 4111 1111"), ("assistant", "1112 were sent in 2024")),
        with_parts(Text("Look at main.py"), ToolResult("c", (Text('@app.get("/")\ndef home(): ...'),))),
        with_parts(ToolResult("a", (Text("38\n39"),)), ToolResult("c", (Text("100644 87 50 90 12 a.py"),))),
    ):
        assert guard(level="strict").found(request).found == ()
    # What stands wholly in one of them is hidden there, whatever follows it.
    released, vault = guard(emails="redact").released(said(("user", f"to {MAIL}"), ("assistant", "Thanks")))
    assert released.messages[0].text == "to [EMAIL_1]" and list(vault.values.values()) == [MAIL]
    assert guard().found(said(("user", KEY), ("user", "and so on"))).found == FOUND
