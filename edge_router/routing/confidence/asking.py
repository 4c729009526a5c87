"""Asking the weak model questions with known answers, and keeping what it showed of itself.

A line is written for each answer, so a run that was stopped goes on where it was. No question is kept in it,
only a hash to know it by.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_router.chat.events import HiddenState, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams, SignalRequest
from edge_router.engines.base import Engine, answered
from edge_router.errors import ContextOverflow, InvalidData
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.routing.confidence.fit import JudgedAnswer
from edge_router.routing.confidence.known_questions import KnownQuestion
from edge_router.routing.labels.judging import exact
from edge_router.system.disk import storage_errors, whole_lines
from edge_router.types import Progress, SilentProgress

TOKENS = 16  # log probabilities that are kept, and the most that a gate can look at
ANCHORS = 1024
LONGEST = 64  # tokens of an answer; the longest right one takes half


@dataclass(frozen=True, slots=True)
class ConfidenceTask:
    """`text` is what a router scores: the last turn of `messages`."""

    messages: tuple[Message, ...]
    answer: str
    kind: str = ""

    @classmethod
    def of(cls, question: KnownQuestion) -> ConfidenceTask:
        return cls(question.messages, question.answer, question.kind)

    @property
    def text(self) -> str:
        return self.messages[-1].text

    def digest(self) -> str:
        whole = json.dumps([self.answer, *(turn.text for turn in self.messages)])
        return hashlib.blake2b(whole.encode("utf-8", "replace"), digest_size=16).hexdigest()


def anchors(vocab_size: int) -> tuple[int, ...]:
    """Tokens spread over the vocabulary, whose logits stand for the model's last hidden state."""
    count = min(ANCHORS, vocab_size)  # none where the size is not known
    return tuple(place * vocab_size // count for place in range(count))


def ask(
    engine: Engine,
    tasks: Sequence[ConfidenceTask],
    watched: Sequence[int],
    file: Path,
    *,
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> tuple[list[ConfidenceTask], list[JudgedAnswer]]:
    """The tasks that the model could answer, and what it showed of each answer, drawn greedily.

    `file` holds the answers so far, of this model, `watched` and `longest`: whoever names it sees to that.
    Raises what the engine raises, but for tasks that are too long; `InvalidData`, `StorageError`.
    """
    known = dict(_read(file))
    asked: list[ConfidenceTask] = []
    with (progress or SilentProgress()).step("ask", total=len(tasks), unit="questions") as step:
        for task in tasks:
            digest = task.digest()
            try:
                if digest not in known:
                    known[digest] = _answered(engine, task, tuple(watched), longest)
                    _append(file, digest, known[digest])
                asked.append(task)
            except ContextOverflow:
                pass  # nothing is wrong with the next one
            step.advance()
    return asked, [known[task.digest()] for task in asked]


def _answered(engine: Engine, task: ConfidenceTask, watched: tuple[int, ...], longest: int) -> JudgedAnswer:
    request = ChatRequest(
        task.messages,
        sampling=SamplingParams(temperature=0),
        max_tokens=longest,
        logprobs=True,
        signals=SignalRequest(TOKENS, watched),
    )
    text, logprobs = "", list[float]()
    state: tuple[float, ...] = ()
    for event in answered(engine, request, threading.Event()):
        if isinstance(event, TextDelta):
            text += event.text
            logprobs += [entry.logprob for entry in event.logprobs]
        elif isinstance(event, HiddenState):
            state = state or event.values
    right = bool(exact(text, task.answer))
    rounded = tuple(round(value, 4) for value in state)
    return JudgedAnswer(task.kind, right, rounded, tuple(logprobs[:TOKENS]))


def _append(file: Path, digest: str, seen: JudgedAnswer) -> None:
    with storage_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps([digest, seen.kind, seen.right, seen.state, seen.logprobs]) + "\n")


def _read(file: Path) -> Iterator[tuple[str, JudgedAnswer]]:
    """What was written so far. Raises `InvalidData`, `StorageError`."""
    for number, line in enumerate(whole_lines(file), start=1):
        try:
            digest, kind, right, state, logprobs = strict_json.parse(line)
        except (ValueError, TypeError) as error:
            raise InvalidData(file, f"line {number} was not written here: {error}; remove it") from error
        yield digest, JudgedAnswer(kind, right, tuple(state), tuple(logprobs))
