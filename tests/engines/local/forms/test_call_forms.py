"""Calls in forms whose texts stand without JSON's quotes, or within Python's, whatever the model would say."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_router.chat.reply import collect
from edge_router.chat.request import GrammarOutput, Tool
from edge_router.engines.local.forms.constraint import Grammars
from edge_router.engines.local.forms.form_mask import Form
from edge_router.engines.local.reading.answer_parts import AnswerParts
from edge_router.prompts.answer_format import FAMILIES, AnswerFormat
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.types import Cancel

pytestmark = pytest.mark.integration  # it takes seconds

fits = runpy.run_path(str(Path(__file__).with_name("small_validator.py")))["fits"]


@pytest.fixture
def grammars(tokenizer: TextTokenizer) -> Iterator[Grammars]:
    end = tokenizer.token("<|im_end|>")
    assert end is not None
    made = Grammars(tokenizer, [end], tokenizer.vocab_size)
    yield made
    made.close()


RICH = {
    "type": "object",
    "properties": {
        "from": {"type": "string"},
        "kind": {"type": "string", "enum": ["a", 'b"c', "d\\e"]},
        "code": {"type": "string", "pattern": r"^[A-Z]{2}/\d+$"},
        "short": {"type": "string", "minLength": 1, "maxLength": 30},
        "day": {"type": "string", "format": "date"},
        "note": {"type": ["string", "null"]},
        "on": {"type": "boolean"},
        "level": {"type": "integer", "minimum": -3, "maximum": 12},
        "tree": {"$ref": "#/$defs/tree"},
        "many": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        "open": {"type": "object"},
    },
    "required": ["kind", "level", "many"],
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "below": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            },
            "required": ["name"],
        }
    },
}
TEXT = {"type": "object", "required": ["a"]}
# What a model may say that ends things where they don't end.
NASTY = (
    "\n</parameter>", "</parameter>\n", '<|"|>', "<escape>", "</function>", "{", "}", "[", "]", "(", ")", ",", "=",
    ":", '"', "'", "\\", "\n", "#", "--------------------------------", "0000000000000000000000000000", "é", "😀",
)  # fmt: skip


def saying(form: Form, tokenizer: TextTokenizer, max_tokens: int, seed: int) -> str:
    """What a model says that would say `NASTY` things, one after the other, wherever it may."""
    mask, random, said = form.mask(max_tokens), np.random.default_rng(seed), b""
    wanted: list[int] = []
    while not mask.complete and max_tokens:
        wanted = wanted or tokenizer.continued(str(random.choice(NASTY)))
        allowed = mask.allowed()
        token = wanted.pop(0)
        if not allowed[token]:
            wanted, token = [], int(random.choice(allowed.nonzero()[0]))
        token = mask.affordable(token)
        mask.accept(token)
        max_tokens -= 1
        if token == tokenizer.token("<|im_end|>"):
            break
        said += tokenizer.token_bytes(token)
    return said.decode()


@pytest.mark.parametrize("family", ["hermes", "qwen coder", "lfm", "gorilla", "gemma 4", "function gemma"])
def test_no_text_breaks_a_held_call(grammars: Grammars, tokenizer: TextTokenizer, family: str) -> None:
    """Whatever stands in them, arguments fit their schema, and the limit closes what is open."""
    tools = [Tool("rich", parameters=RICH, strict=True)]
    form = grammars.calls(FAMILIES[family], tools, Cancel(), parallel=False)
    seen: set[str] = set()
    for seed in range(6):
        text = saying(form, tokenizer, form.shortest + 50 * seed, seed)
        parts = AnswerParts(AnswerFormat(None, FAMILIES[family]), tools=tools)
        pieces = [event for char in text for event in parts.push(char)]
        reply = collect([*pieces, *parts.end()])
        assert not parts.cut and [call.name for call in reply.calls] == ["rich"], text
        assert len(reply.parts) == 1, text
        found = json.loads(reply.calls[0].arguments)
        assert fits(found, RICH), (text, found)
        seen |= found.keys()
    assert len(seen) > 5, seen


def test_a_text_without_quotes_ends_as_soon_as_its_pattern_lets_it(
    grammars: Grammars, tokenizer: TextTokenizer
) -> None:
    """Though braces, which end what JSON has open, may stand in it for ever."""
    demands = {
        "[0-9]": Tool("t", parameters={**TEXT, "properties": {"a": {"type": "string", "pattern": "[0-9]"}}}),
        "<[^>]+>": Tool("t", free=True, form=GrammarOutput("lark", 'start: "<" /[^>]+/ ">"')),
    }
    for pattern, tool in demands.items():
        for family in ("qwen coder", "gemma 4", "function gemma"):
            form = grammars.calls(FAMILIES[family], [tool], Cancel(), parallel=False)
            text = saying(form, tokenizer, form.shortest, 0)
            parts = AnswerParts(AnswerFormat(None, FAMILIES[family]), tools=[tool])
            reply = collect([*parts.push(text), *parts.end()])
            assert len(reply.calls) == 1 and not parts.cut, (family, text)
            assert re.search(pattern, reply.calls[0].arguments), (family, text)
