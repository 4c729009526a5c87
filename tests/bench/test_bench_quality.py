"""`bench quality`: what counts as looping, as right and ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_router.bench.everyday import PROMPTS, QUESTIONS, EverydayQuestion
from edge_router.bench.quality import BRIEF, FAR, LONGEST, AnswerQuality, is_looping, is_right, measure
from edge_router.chat.events import Event, Finished, TextDelta, Usage
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import Prompt
from edge_router.engines.scripted import ScriptedEngine
from edge_router.types import Cancel

PASSAGE = "the sea is a vast and deep realm"
OTHER = "a small boat came home late at night"


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("", False),
        (PASSAGE, False),
        (f"{PASSAGE}. {PASSAGE}.", False),
        (f"{PASSAGE}. {PASSAGE}. {PASSAGE}.", True),
        (f"{PASSAGE}! {OTHER}; {PASSAGE.upper()}, {OTHER} {PASSAGE}", True),
        (f"1. {PASSAGE}\n2. {PASSAGE}\n3. {PASSAGE}\n", True),
        (f"- {PASSAGE}\n* {PASSAGE}\n- {PASSAGE}\n", True),
        ("1. the sea\n2. the boat\n3. the night\n" * 8, True),
        ("no " * 23, False),  # eight words three times are twenty-four
        ("no " * 24, True),
        (" ".join(str(number) for number in range(400)), False),
        ("The sea is wide. The sea is deep. The sea is cold. The sea is grey. The sea is old.", False),
        ("\n".join(f"{number}. I like number {number} best of them all" for number in range(9)), False),
        ("Море широкое и глубокое, и никто его не видел. " * 3, True),
    ],
)
def test_looping_is_the_same_eight_words_three_times(text, looping):
    assert is_looping(text) is looping


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Rome", True),
        ("The capital of Italy is **ROME**.", True),
        ("It is New\nYork", False),
        ("Romeo", False),
        ("", False),
        ("ice cream, or Rome?", True),
    ],
)
def test_an_answer_is_right_where_its_words_stand_in_the_reply(reply, right):
    assert is_right(reply, EverydayQuestion("?", ("Rome",))) is right
    assert is_right("They gave it to da Vinci.", EverydayQuestion("?", ("Leonardo", "da Vinci")))
    assert is_right("H2O", EverydayQuestion("?", ("h2o",))) and not is_right(
        "17", EverydayQuestion("?", ("7",))
    )


LOOP = f"{PASSAGE}. " * 3
TOKENS = {"Fine.": LONGEST, "Long.": LONGEST + 1, LOOP: 30, "On.": FAR, "It is Rome.": 5, "Paris": 3}


class Model(ScriptedEngine):
    """Answers by the prompt and remembers what it was asked."""

    def __init__(self, replies: dict[str, tuple[str, str]]) -> None:
        super().__init__("")
        self.replies, self.asked = replies, list[ChatRequest]()

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        self.asked.append(prompt.request)
        text, finish = self.replies[prompt.request.messages[0].text]
        yield TextDelta(text)
        yield Finished(finish, usage=Usage(3, TOKENS[text]))  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [1, 4])
def test_what_is_counted(at_once):
    model = Model({"a": ("Fine.", "stop"), "b": (LOOP, "stop"), "c": (LOOP, "length"), "d": ("On.", "length"),
                   "e": ("Long.", "stop"), "q": ("It is Rome.", "stop"), "r": ("Paris", "stop")})  # fmt: skip
    found, answers = measure(
        model,
        "mine",
        seeds=(5, 6),
        prompts=("a", "b", "c", "d", "e"),
        questions=(EverydayQuestion("q", ("Rome",)), EverydayQuestion("r", ("Rome",))),
        sampling=SamplingParams(top_p=0.5),
        at_once=at_once,
    )
    mean = (LONGEST + 30 + 30 + FAR + LONGEST + 1) / 5
    assert found == AnswerQuality("mine", 10, ended=4, looping=4, away=6, asked=4, right=2, tokens=mean)
    assert [said.prompt for said in answers] == ["a", "b", "c", "d", "e"] * 2
    asked = {(r.messages[0].text, r.sampling.seed, r.max_tokens) for r in model.asked}
    assert asked == {(text, seed, FAR) for text in "abcde" for seed in (5, 6)} | {
        (text, seed, BRIEF) for text in "qr" for seed in (5, 6)
    }
    assert {request.sampling.top_p for request in model.asked} == {0.5}


def test_the_prompts_and_questions_that_ship():
    assert len(PROMPTS) == len(set(PROMPTS)) == 16
    assert len(QUESTIONS) == len({question.text for question in QUESTIONS}) == 40
    assert all(question.answers and all(question.answers) for question in QUESTIONS)
    for question in QUESTIONS:  # no question gives its own answer away
        assert not is_right(question.text, question), question
