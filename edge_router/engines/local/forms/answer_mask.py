"""An answer in phases: thoughts, then text, then what is held to a form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_router.engines.local.forms.form_mask import Form, FormMask
from edge_router.prompts.answer_format import CallFormat
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.records import dataclass

_BRACES = (b"{", b"[{")  # which begin a call that has no mark
_SHORTEST_LOOK = 8  # bytes


@dataclass(frozen=True, slots=True)
class Thinking:
    """Thoughts before an answer: `opening` tokens that must begin them, if any, and their `close` mark.

    After `budget` tokens they are closed by `closing` tokens; None lets them go on.
    """

    close: str
    closing: tuple[int, ...]
    opening: tuple[int, ...] = ()
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Openings:
    """What a form waits for: any of the `marks` with which it begins, or, `bare`, a brace at the start of the
    text; or any of those that stand `before` it.
    """

    marks: tuple[str, ...]
    bare: bool = False
    before: tuple[str, ...] = ()

    @classmethod
    def of(cls, form: CallFormat) -> Openings:
        marks = [mark for mark in form.openings if mark not in form.also]
        return cls(tuple(marks), form.bare, form.also)


class AnswerMask:
    """An `EndingMask` that is idle where anything may be said. One belongs to one answer.

    What follows the thoughts is held to `form`, at once or from the first of `openings` on. `begun` is how
    an answer that goes on has begun: as the form has it.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        vocab_size: int,
        max_tokens: int,
        *,
        thinking: Thinking | None = None,
        form: Form | None = None,
        openings: Openings | None = None,
        begun: bytes = b"",
    ) -> None:
        self._begun_with = begun
        self._bytes_of, self._vocab_size, self._left = tokenizer.token_bytes, vocab_size, max_tokens
        self._thoughts, self._form, self._openings = thinking, form, openings
        self._inner: FormMask | None = None
        self._forced: tuple[int, ...] = thinking.opening if thinking is not None else ()
        self._thought = 0  # tokens of thoughts
        self._recent: list[tuple[int, bytes]] = []  # tokens that a mark may begin in
        self._begun = False  # text has come that is no white space
        self.thinking = thinking is not None
        if not self.thinking:
            self._hold()

    @property
    def idle(self) -> bool:
        """Whether the next token may be any."""
        return self._inner is None and not self._forced

    @property
    def complete(self) -> bool:
        return self._inner is not None and self._inner.complete

    @property
    def cut(self) -> bool:
        return self._inner is not None and self._inner.cut

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        if self._forced:
            only = np.zeros(self._vocab_size, np.bool_)
            only[self._forced[0]] = True
            return only
        return None if self._inner is None else self._inner.allowed()

    def affordable(self, token: int) -> int:
        return token if self._inner is None else self._inner.affordable(token)

    def accept(self, token: int) -> None:
        self._left -= 1
        forced, self._forced = self._forced, self._forced[1:]
        if self._inner is not None:
            self._inner.accept(token)
        elif self.thinking:
            self._think(token)
        elif not forced and self._openings is not None:
            self._look_for_openings(token)
        if not self.thinking and not self._forced:
            self._hold()

    def shorten(self, max_tokens: int) -> None:
        self._left = min(self._left, max_tokens)
        if self._inner is not None:
            self._inner.shorten(max_tokens)

    def hurry(self) -> bool:
        return self._inner is not None and self._inner.hurry()

    def _think(self, token: int) -> None:
        assert self._thoughts is not None
        self._thought += 1
        close = self._thoughts.close.encode()
        if self._text_with(token, len(close)).find(close) >= 0:
            self.thinking = False
            self._recent.clear()
        elif not self._forced and self._is_over():
            self._forced = self._thoughts.closing

    def _is_over(self) -> bool:
        """Whether there is no room for more thoughts."""
        assert self._thoughts is not None
        held = self._form if self._openings is None else None
        needed = len(self._thoughts.closing) + (held.shortest + 1 if held is not None else 0)
        budget = self._thoughts.budget
        return (budget is not None and self._thought >= budget) or (held is not None and self._left <= needed)

    def _hold(self) -> None:
        if self._inner is None and self._form is not None and self._openings is None:
            begun = self._begun_with
            self._inner = self._form.resumed(begun, self._left) if begun else self._form.mask(self._left)

    def _look_for_openings(self, token: int) -> None:
        """Hold to the form from the mark on."""
        assert self._openings is not None and self._form is not None
        marks = (*self._openings.marks, *self._openings.before)
        text = self._text_with(token, max(_SHORTEST_LOOK, *(len(mark.encode()) for mark in marks)))
        places = [at for mark in self._openings.marks if (at := text.find(mark.encode())) >= 0]
        if self._openings.bare and not self._begun:
            words = text.lstrip()
            if words.startswith(_BRACES):
                places.append(len(text) - len(words))
            self._begun = bool(words) and not any(brace.startswith(words) for brace in _BRACES)
        before = any(text.endswith(mark.encode()) for mark in self._openings.before)
        if places or before:
            said = text[min(places) :] if places else b""
            self._inner = self._form.resumed(said, self._left)
            self._recent.clear()

    def _text_with(self, token: int, longest: int) -> bytes:
        """The end of the text with this token, where a mark of so many bytes may be that no other end has."""
        self._recent.append((token, self._bytes_of(token)))
        while len(self._recent) > 1 and sum(len(data) for _, data in self._recent[1:]) >= longest:
            del self._recent[0]
        return b"".join(data for _, data in self._recent)
