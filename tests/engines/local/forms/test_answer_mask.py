"""Thoughts first, then text, then what is held to a form."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from edge_router.chat.request import Tool
from edge_router.engines.local.forms.answer_mask import AnswerMask, Openings, Thinking
from edge_router.engines.local.forms.constraint import Grammars
from edge_router.prompts.answer_format import FAMILIES
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.types import Cancel

TOOL = Tool(
    "now", parameters={"type": "object", "properties": {"zone": {"enum": ["CET"]}}, "required": ["zone"]}
)


@pytest.fixture
def grammars(tokenizer: TextTokenizer) -> Iterator[Grammars]:
    made = Grammars(tokenizer, [299], tokenizer.vocab_size)
    yield made
    made.close()


class Talk:
    """A mask with what a model says that would say `wanted` and then anything."""

    def __init__(self, tokenizer: TextTokenizer, mask: AnswerMask) -> None:
        self.tokenizer, self.mask, self.said = tokenizer, mask, b""

    def say(self, wanted: str = "", more: int = 0) -> str:
        """What is taken in place of it; `more` tokens of anything behind it."""
        random, begin = np.random.default_rng(7), len(self.said)
        tokens: list[int | None] = (
            [*self.tokenizer.continued(wanted), *[None] * more] if wanted else [None] * more
        )
        for token in tokens:
            if self.mask.complete:
                break
            allowed = self.mask.allowed()
            if allowed is not None and (token is None or not allowed[token]):
                token = int(random.choice(allowed.nonzero()[0]))
            taken = self.mask.affordable(260 if token is None else token)
            self.mask.accept(taken)
            self.said += self.tokenizer.token_bytes(taken)
        return self.said[begin:].decode()


def thinking(tokenizer: TextTokenizer, budget: int | None = None, *, opened: bool = True) -> Thinking:
    opening = () if opened else tuple(tokenizer.encode("<think>"))
    return Thinking("</think>", tuple(tokenizer.encode("\n</think>\n\n")), opening, budget)


def test_a_budget_closes_thoughts_and_no_sooner(tokenizer: TextTokenizer) -> None:
    mask = AnswerMask(tokenizer, tokenizer.vocab_size, 200, thinking=thinking(tokenizer, 5))
    talk = Talk(tokenizer, mask)
    assert mask.idle and mask.thinking
    assert talk.say("abcde") == "abcde" and not mask.idle
    assert talk.say("x" * 11 + "Yes.") == "\n</think>\n\nYes." and not mask.thinking and mask.idle


def test_thoughts_that_end_by_themselves_are_left_alone(tokenizer: TextTokenizer) -> None:
    mask = AnswerMask(tokenizer, tokenizer.vocab_size, 200, thinking=thinking(tokenizer, 50, opened=False))
    talk = Talk(tokenizer, mask)
    assert talk.say(more=1) == "<think>"
    assert (
        talk.say("Hm.</think>Yes, </think> is a mark." + "x" * 60)
        == "Hm.</think>Yes, </think> is a mark." + "x" * 60
    )


def test_a_form_begins_behind_the_thoughts_and_has_its_room(
    grammars: Grammars, tokenizer: TextTokenizer
) -> None:
    form = grammars.json(
        {"type": "object", "properties": {"a": {"enum": ["yes"]}}, "required": ["a"]}, Cancel()
    )
    mask = AnswerMask(tokenizer, tokenizer.vocab_size, 60, thinking=thinking(tokenizer), form=form)
    said = Talk(tokenizer, mask).say("so on and " * 6, more=60)
    thoughts, _, answer = said.partition("</think>")
    assert json.loads(answer) == {"a": "yes"} and len(thoughts) > 20 and mask.complete
    at_once = AnswerMask(tokenizer, tokenizer.vocab_size, 60, form=form)
    assert json.loads(Talk(tokenizer, at_once).say("Sure!", more=60)) == {"a": "yes"}


def test_calls_are_held_once_their_mark_is_written(grammars: Grammars, tokenizer: TextTokenizer) -> None:
    for family, text, mark in (
        ("hermes", "One <tool> and ", "<tool_call>"),
        ("llama", "", '{"'),
        ("llama", "Hm ", "<|python_tag|>"),
        ("mistral", "", "[TOOL_CALLS]"),
        ("deepseek", "Well", "<｜tool▁calls▁begin｜>"),
    ):
        form = FAMILIES[family]
        held = grammars.calls(form, [TOOL], Cancel(), parallel=False)
        mask = AnswerMask(tokenizer, tokenizer.vocab_size, 500, form=held, openings=Openings.of(form))
        talk = Talk(tokenizer, mask)
        assert talk.say(text) == text and mask.idle
        assert talk.say(mark) == mark and not mask.idle, family
        said = mark + talk.say("what ever", more=300)
        assert '"CET"' in said and mask.complete, (family, said)


def test_a_mark_across_tokens_that_hold_more_is_not_held(
    grammars: Grammars, tokenizer: TextTokenizer
) -> None:
    """Here a token begins with " t"."""
    form = FAMILIES["llama"]
    held = grammars.calls(form, [TOOL], Cancel(), parallel=False)
    mask = AnswerMask(tokenizer, tokenizer.vocab_size, 500, form=held, openings=Openings.of(form))
    talk = Talk(tokenizer, mask)
    assert talk.say("Yes. {") == "Yes. {" and mask.idle
    other = AnswerMask(tokenizer, tokenizer.vocab_size, 500, form=held, openings=Openings.of(form))
    assert Talk(tokenizer, other).say('{"x') == '{"x'[:2] + "n"


def test_there_is_less_room_than_was_thought(grammars: Grammars, tokenizer: TextTokenizer) -> None:
    form = grammars.json({"type": "string"}, Cancel())
    mask = AnswerMask(tokenizer, tokenizer.vocab_size, 500, thinking=thinking(tokenizer), form=form)
    talk = Talk(tokenizer, mask)
    talk.say("Hm, ")
    mask.shorten(30)
    said = talk.say("so on and " * 10, more=20)
    assert json.loads(said.partition("</think>")[2]) is not None and len(talk.said) <= 4 + 30
