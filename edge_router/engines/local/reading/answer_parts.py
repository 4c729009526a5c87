"""The parts of an answer, told apart while it streams: text, thoughts, and calls of tools.

However the text is cut into pieces, the events joined are the same. White space beside marks goes with them;
all else comes out again: what looks like a call and is none is text.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeAlias

from edge_router.chat.events import Event, ReasoningDelta, TextDelta
from edge_router.chat.request import Tool
from edge_router.engines.local.reading.call_reader import CallReader, new_id
from edge_router.prompts.answer_format import AnswerFormat, ThoughtMarks

_Step: TypeAlias = Generator[Event, None, bool]


class AnswerParts:
    """`push` what is written, then `end`. `thinking`: it begins within thoughts. No `tools`: no calls."""

    def __init__(
        self,
        form: AnswerFormat,
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = False,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        self._thoughts, self._form = form.thoughts, form.calls if tools else None
        self._tools, self._new_id = tools, new_id
        self.thinking = thinking and form.thoughts is not None
        self.calls = 0  # that have begun
        self.cut = False  # a call was not whole when the answer ended
        self._marks = self._form.openings if self._form is not None else ()
        bare = ("{", "[") if self._form is not None and self._form.bare else ()
        self._starts = (*((self._thoughts.open,) if self._thoughts is not None else ()), *bare)
        self._begun = False  # something has been said that thoughts can't follow
        self._beside = self.thinking  # a mark was last, so white space is dropped
        self._held = ""  # of which nothing is known yet
        self._space = ""  # before what may be a call
        self._reader: CallReader | None = None

    @property
    def calling(self) -> bool:
        """Whether what comes next may be of a call."""
        return self._reader is not None

    def push(self, text: str) -> list[Event]:
        self._held += text
        return list(self._events())

    def end(self) -> list[Event]:
        events = list(self._events())
        while self._reader is not None:
            self._reader.end()
            events += self._events()
        rest, self._held = self._held, ""
        if rest and self.thinking:
            events += [ReasoningDelta(rest)] if (rest := rest.rstrip()) else []
        elif rest and not (self._beside and rest.isspace()):
            events += self._said(rest)
        return events

    def _events(self) -> Iterator[Event]:
        """All that is known of what is held."""
        goes_on = True
        while goes_on:
            if self._reader is not None:
                goes_on = yield from self._read(self._reader)
            elif self.thinking and self._thoughts is not None:
                goes_on = yield from self._think(self._thoughts)
            else:
                goes_on = yield from self._tell()

    # Each of these is one step: whether there is another one to take before more has come.

    def _think(self, marks: ThoughtMarks) -> _Step:
        if self._beside:
            self._held = self._held.lstrip()
        at = self._held.find(marks.close)
        known = self._held[:at].rstrip() if at >= 0 else _surely_text(self._held, (marks.close,))
        if known:
            self._beside = False
            yield ReasoningDelta(known)
        if at < 0:
            self._held = self._held[len(known) :]
            return False
        self._held = self._held[at + len(marks.close) :]
        self.thinking, self._beside = False, True
        return True

    def _tell(self) -> _Step:
        if self._beside:
            self._held = self._held.lstrip()
        if not self._begun and self._starts:
            text = self._held.lstrip()
            begun = next((start for start in self._starts if text.startswith(start)), None)
            if begun is not None and self._thoughts is not None and begun == self._thoughts.open:
                self._held, self.thinking, self._beside = text[len(begun) :], True, True
                return True
            if begun is not None:
                return self._open(0, len(self._held) - len(text))
            if any(start.startswith(text) for start in self._starts):
                return False
        places = [at for mark in self._marks if (at := self._held.find(mark)) >= 0]
        known = self._held[: min(places)].rstrip() if places else _surely_text(self._held, self._marks)
        if known:
            yield from self._said(known)
        if places:
            return self._open(len(known), min(places))
        self._held = self._held[len(known) :]
        return False

    def _open(self, begin: int, mark: int) -> bool:
        """What is held has a mark of calls at `mark`, with white space from `begin` on."""
        assert self._form is not None
        self._space, self._held = self._held[begin:mark], self._held[mark:]
        self._reader = CallReader(self._form, self._tools, self.calls, self._new_id)
        return True

    def _read(self, reader: CallReader) -> _Step:
        yield from reader.push(self._held)
        self._held = ""
        if not reader.over:
            return False
        self._reader, self._held = None, reader.rest
        begun, self.calls = reader.index > self.calls, reader.index
        self.cut = self.cut or reader.cut
        if begun:
            self._begun = self._beside = True
        elif reader.rest:  # it was no call: the mark is text, and what follows may be anything
            first = next((mark for mark in self._marks if reader.rest.startswith(mark)), reader.rest[0])
            self._held = reader.rest[len(first) :]
            yield from self._said(self._space + first)
        return True

    def _said(self, text: str) -> Iterator[Event]:
        self._begun, self._beside = True, False
        yield TextDelta(text)


def _surely_text(text: str, marks: Sequence[str]) -> str:
    """`text` without its end, where that may be the beginning of a mark, or the white space before one."""
    if not marks:
        return text
    held = max((_overlap(text, mark) for mark in marks), default=0)
    return text[: len(text) - held].rstrip()


def _overlap(text: str, mark: str) -> int:
    longest = min(len(mark) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)
