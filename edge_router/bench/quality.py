"""What people see of the weak model's answers: do they end, do they go in circles, are they right?

Perplexity does not tell: of two quantizers that are close by it, one may let half of the answers run away.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from edge_router.bench.everyday import PROMPTS, QUESTIONS, EverydayQuestion
from edge_router.chat.events import Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import Engine, answered
from edge_router.records import dataclass
from edge_router.types import Progress, SilentProgress

LONGEST = 250  # tokens; the good answers to these prompts take less
FAR = 500  # tokens: what has not ended by then never will
BRIEF = 64  # tokens in which a question with one answer should have been answered
PASSAGE = 8  # words
OFTEN = 3  # times that a passage has to come
FIRST_SEED = 11  # others served to choose the sampling

_Task = tuple[int, str, int]  # seed, text, tokens at most

_WORD = re.compile(r"[^\W_]+")
_NUMBERING = re.compile(r"^\s*(?:\d+[.):]|[-*•])\s*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class AnswerQuality:
    """Counts: of `answers` to everyday prompts, and of `asked` questions that have one right answer.

    `ended`: by the model itself, within `LONGEST` tokens; `looping`: see `is_looping`; `away`: looping, or
    not ended within `FAR` tokens. `tokens` is the mean length of an answer.
    """

    name: str
    answers: int
    ended: int
    looping: int
    away: int
    asked: int
    right: int
    tokens: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer."""

    prompt: str
    text: str
    tokens: int
    ended: bool  # by the model itself

    @property
    def ran_away(self) -> bool:
        return not self.ended or is_looping(self.text)


def is_looping(text: str) -> bool:
    """Whether the same `PASSAGE` words in a row come `OFTEN` times, none of them counted twice.

    Case, punctuation and the numbering of lists do not count.
    """
    words = _words(_NUMBERING.sub("", text))
    seen: dict[tuple[str, ...], tuple[int, int]] = {}  # how often it came, and where the last one ended
    for start in range(len(words) - PASSAGE + 1):
        passage = tuple(words[start : start + PASSAGE])
        times, end = seen.get(passage, (0, 0))
        if start >= end:
            seen[passage] = times + 1, start + PASSAGE
            if times + 1 == OFTEN:
                return True
    return False


def is_right(reply: str, question: EverydayQuestion) -> bool:
    """Whether one of the answers' spellings stands in the reply, as whole words."""
    said = f" {' '.join(_words(reply))} "
    return any(f" {' '.join(_words(answer))} " in said for answer in question.answers)


def measure(
    engine: Engine,
    name: str,
    *,
    seeds: Sequence[int] = range(FIRST_SEED, FIRST_SEED + 3),
    prompts: Sequence[str] = PROMPTS,
    questions: Sequence[EverydayQuestion] = QUESTIONS,
    sampling: SamplingParams | None = None,
    at_once: int = 1,
    progress: Progress | None = None,
) -> tuple[AnswerQuality, list[Said]]:
    """Every prompt and question with each seed, `at_once` of them together; the answers to the prompts too.

    `sampling` leaves to the model's own defaults what it does not say. Raises what the engine raises.
    """
    tasks = [(seed, text, FAR) for seed in seeds for text in prompts]
    tasks += [(seed, question.text, BRIEF) for seed in seeds for question in questions]

    def answer(task: _Task) -> Said:
        seed, text, longest = task
        return _said(engine, text, longest, replace(sampling or SamplingParams(), seed=seed))

    found: list[Said] = []
    with (
        ThreadPoolExecutor(at_once) as pool,
        (progress or SilentProgress()).step(name, total=len(tasks), unit="answers") as step,
    ):
        for said in pool.map(answer, tasks):
            found.append(said)
            step.advance()
    answers, replies = found[: len(seeds) * len(prompts)], found[len(seeds) * len(prompts) :]
    asked = [question for _ in seeds for question in questions]
    right = sum(is_right(said.text, question) for said, question in zip(replies, asked, strict=True))
    return AnswerQuality(
        name=name,
        answers=len(answers),
        ended=sum(said.ended and said.tokens <= LONGEST for said in answers),
        looping=sum(is_looping(said.text) for said in answers),
        away=sum(said.ran_away for said in answers),
        asked=len(replies),
        right=right,
        tokens=round(sum(said.tokens for said in answers) / max(1, len(answers)), 1),
    ), answers


def _said(engine: Engine, text: str, longest: int, sampling: SamplingParams) -> Said:
    request = ChatRequest((Message("user", text),), sampling=sampling, max_tokens=longest)
    parts, tokens, ended = list[str](), 0, False
    for event in answered(engine, request, threading.Event()):
        if isinstance(event, TextDelta):
            parts.append(event.text)
        elif isinstance(event, Finished):
            tokens = event.usage.completion_tokens if event.usage else 0
            ended = event.reason == "stop"
    return Said(text, "".join(parts), tokens, ended)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
