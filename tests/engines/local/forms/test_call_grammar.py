"""Calls held to their form, whatever the model would say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest

from edge_router.chat.events import Event
from edge_router.chat.message import ToolCall
from edge_router.chat.reply import Reply, collect
from edge_router.chat.request import GrammarOutput, Tool
from edge_router.engines.local.forms.constraint import Grammars
from edge_router.engines.local.forms.form_mask import Form
from edge_router.engines.local.reading.answer_parts import AnswerParts
from edge_router.errors import InvalidRequest, UnsupportedRequest
from edge_router.prompts.answer_format import FAMILIES, AnswerFormat, CallFormat
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.types import Cancel

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Bonn", "Köln"]}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOLS = (Tool("weather", parameters=CITY), Tool("now"), Tool("patch", free=True))


@pytest.fixture
def grammars(tokenizer: TextTokenizer) -> Iterator[Grammars]:
    end = tokenizer.token("<|im_end|>")
    assert end is not None
    made = Grammars(tokenizer, [end], tokenizer.vocab_size)
    yield made
    made.close()


def at_random(form: Form, tokenizer: TextTokenizer, max_tokens: int, seed: int) -> str:
    """What a model says that takes any token that it may."""
    mask, random, said = form.mask(max_tokens), np.random.default_rng(seed), b""
    for _ in range(max_tokens):
        token = mask.affordable(int(random.choice(mask.allowed().nonzero()[0])))
        mask.accept(token)
        if token == tokenizer.token("<|im_end|>"):
            break
        said += tokenizer.token_bytes(token)
        if mask.complete:
            break
    return said.decode()


def read(form: CallFormat, text: str) -> Reply:
    parts = AnswerParts(AnswerFormat(None, form), tools=TOOLS)
    events: list[Event] = [*parts.push(text), *parts.end()]
    assert not parts.cut, text
    return collect(events)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_held_call_is_read_back_and_fits(grammars: Grammars, tokenizer: TextTokenizer, family: str) -> None:
    """Whatever the model would say, and cut by the limit, too."""
    for parallel in (False, True):
        form = grammars.calls(FAMILIES[family], TOOLS, Cancel(), parallel=parallel)
        counts = set()
        for seed in range(6):
            text = at_random(form, tokenizer, form.shortest + 10 * seed * seed, seed)
            reply = read(FAMILIES[family], text)
            assert len(reply.calls) == len(reply.parts), text
            counts.add(len(reply.calls))
            for call in reply.calls:
                check(call)
        assert min(counts) >= 1 and (parallel or counts == {1})


def check(call: ToolCall) -> None:
    if call.name == "patch":
        assert call.free
        return
    found = json.loads(call.arguments)
    if call.name == "now":
        assert isinstance(found, dict)
    else:
        assert (
            call.name == "weather" and found["city"] in ("Bonn", "Köln") and found.keys() <= {"city", "days"}
        )


def test_the_only_tool_is_the_only_call(grammars: Grammars, tokenizer: TextTokenizer) -> None:
    form = grammars.calls(FAMILIES["hermes"], TOOLS[:1], Cancel(), parallel=False)
    for seed in range(4):
        assert [
            call.name for call in read(FAMILIES["hermes"], at_random(form, tokenizer, 200, seed)).calls
        ] == ["weather"]


def test_a_schema_that_cannot_be_followed_is_any_object_where_nothing_is_strict(
    grammars: Grammars, tokenizer: TextTokenizer
) -> None:
    odd = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}
    form = grammars.calls(FAMILIES["hermes"], [Tool("weather", parameters=odd)], Cancel(), parallel=False)
    assert read(FAMILIES["hermes"], at_random(form, tokenizer, 90, 1)).calls
    with pytest.raises(UnsupportedRequest, match=r"tools: weather: .*not"):
        grammars.calls(
            FAMILIES["hermes"], [Tool("weather", parameters=odd, strict=True)], Cancel(), parallel=False
        )


def test_what_is_no_schema_is_the_callers_mistake(grammars: Grammars) -> None:
    wrong = Tool("weather", parameters={"type": "object", "properties": []})
    with pytest.raises(InvalidRequest, match="tools: weather"):
        grammars.calls(FAMILIES["hermes"], [wrong], Cancel(), parallel=False)


def test_an_answer_goes_on_from_what_was_said(grammars: Grammars, tokenizer: TextTokenizer) -> None:
    form = grammars.calls(FAMILIES["hermes"], TOOLS[:1], Cancel(), parallel=False)
    mask = form.resumed(b'<tool_call>\n{"na', 100)
    assert mask is not None
    allowed = mask.allowed()
    assert allowed[tokenizer.encode("m")[0]] and allowed.sum() == 1
    assert form.resumed(b"<tool_call>\n[1", 100) is None


def test_answers_are_held_to_grammars(grammars: Grammars, tokenizer: TextTokenizer) -> None:
    lark = 'start: greeting " " name\ngreeting: "Hi" | "Hello"\nname: /[A-Z][a-z]{1,5}/'
    for output, fits in (
        (
            GrammarOutput("lark", lark),
            lambda text: text.split(" ")[0] in ("Hi", "Hello") and text.split(" ")[1].isalpha(),
        ),
        (
            GrammarOutput("regex", "[0-9]{3}-[0-9]{2}"),
            lambda text: text[3] == "-" and text.replace("-", "").isdecimal(),
        ),
    ):
        for seed in range(5):
            assert fits(at_random(grammars.grammar(output, Cancel()), tokenizer, 40, seed)), output


def test_a_grammar_has_bounds(grammars: Grammars) -> None:
    for output, said in (
        (GrammarOutput("lark", "start: missing"), "missing"),
        (GrammarOutput("lark", "start: ("), "the grammar|weak model"),
        (GrammarOutput("regex", "(a"), "the grammar|weak model"),
        (GrammarOutput("regex", "a" * 70_000), "65536 characters"),
        (GrammarOutput("regex", "(" * 80 + "a" + ")" * 80), "64 levels"),
        (GrammarOutput("lark", "start: start"), "short enough|cannot be followed"),
    ):
        with pytest.raises(UnsupportedRequest, match=said):
            grammars.grammar(output, Cancel())


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_are_such_as_computers_have(
    grammars: Grammars, tokenizer: TextTokenizer, family: str
) -> None:
    """Whatever exponent the model would write, and whatever quote stands in a text before it."""
    inner = {"type": "object", "properties": {"size": {"type": "number"}}, "required": ["size"]}
    held = {
        "name": {"type": "string", "minLength": 1, "maxLength": 3},
        "size": {"type": "number"},
        "more": inner,
    }
    schema = {"type": "object", "properties": held, "required": [*held]}
    mask = grammars.calls(
        FAMILIES[family], [Tool("now", parameters=schema, strict=True)], Cancel(), parallel=False
    ).mask(400)
    said = b""
    while not mask.complete:
        allowed = mask.allowed()
        number = re.search(rb"[0-9.e+-]*$", said)
        words = "9" if number is not None and b"e" in number[0] else '"e9'
        wanted = [token for word in words for token in tokenizer.encode(word) if allowed[token]]
        token = mask.affordable(int((wanted or allowed.nonzero()[0])[0]))
        mask.accept(token)
        said += tokenizer.token_bytes(token)
    (call,) = read(FAMILIES[family], said.decode()).calls
    found = json.loads(call.arguments)
    assert math.isfinite(found["size"]) and math.isfinite(found["more"]["size"]), said
    assert said.count(b"9e9") == 2, said
