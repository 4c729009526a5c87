"""Tokens that an answer may go on with, guessed from what its prompt and itself have said before.

What follows the last few tokens where they came before is read together with the next token, in one call of
the model. Each place is then chosen as it always is, and the first choice that is none of the guesses ends
the step: so the answer is the same, whatever was guessed. How much is guessed follows from how often guesses
held in this answer, by how long the match was, and from how long calls of so many tokens have taken.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LEAST = 2  # tokens that must have come before, in this order
_LONGEST = 12  # of a match, that is looked at
_PLACES = 16  # where the last tokens came before, the latest first, that are compared
_GRADES = (3, 4, 6, 9)  # lengths of a match from which on its guesses count apart
_HELD = (0.35, 0.5, 0.65, 0.75, 0.85)  # of the guesses of each grade, before an answer has shown its own
_TRUST = 3.0  # guesses for which that counts
_MEMORY = 0.85  # that is kept of what was seen, with each new guess
_WORTH = 1.03  # times as quick a step with guesses must seem
_NEXT_ROW = 0.35  # of a step's time, that another token takes, before it was measured
_TIMES = 12  # calls of so many tokens that are remembered
_ANEW = 128  # steps without a guess, however sure, after which times are measured again
_SURE = 0.7


class Lookup:
    """Where tokens came before. `of` a list that only grows."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._last: dict[tuple[int, int], int] = {}  # the place behind two tokens, where they came last
        self._before = [-1] * LEAST  # of each place: the one behind the same two tokens before it

    def guess(self, count: int) -> tuple[int, list[int]]:
        """How many of the last tokens came before, and up to `count` that followed; (0, []) for none."""
        tokens, before, last = self._tokens, self._before, self._last
        for end in range(len(before), len(tokens) + 1):
            pair = (tokens[end - 2], tokens[end - 1])
            before.append(last.get(pair, -1))
            last[pair] = end
        if len(tokens) < LEAST:
            return 0, []
        longest, found, place = 0, -1, before[len(tokens)]
        for _ in range(_PLACES):
            if place < 0 or longest == _LONGEST:
                break
            length = self._match(place)
            if length > longest:
                longest, found = length, place
            place = before[place]
        if found < 0:
            return 0, []
        # Behind its end a text that repeats itself is taken to go on so.
        period, following = len(tokens) - found, tokens[found : found + count]
        while len(following) < count:
            following.append(following[len(following) - period])
        return longest, following

    def _match(self, place: int) -> int:
        tokens, end, length = self._tokens, len(self._tokens), LEAST
        while length < min(_LONGEST, place) and tokens[place - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length


class Guesses:
    """What may follow `tokens`, which are the prompt and the answer so far, and how often that held."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens, self._lookup = tokens, Lookup(tokens)
        self._held = [share * _TRUST for share in _HELD]  # by grade
        self._made = [_TRUST for _ in _HELD]
        self._grade, self._last, self._from = 0, list[int](), len(tokens)

    def next(self, count: int) -> tuple[float, list[int]]:
        """Tokens, and the probability with which each is right where those before it are."""
        self._look_back()
        length, self._last = self._lookup.guess(count)
        self._grade, self._from = sum(length >= least for least in _GRADES), len(self._tokens)
        return self._held[self._grade] / self._made[self._grade], self._last

    def _look_back(self) -> None:
        """At what has come where the last was guessed, whether or not the model was told of the guess."""
        grade = self._grade
        for guess, token in zip(self._last, self._tokens[self._from :], strict=False):
            self._held[grade] = self._held[grade] * _MEMORY + (guess == token)
            self._made[grade] = self._made[grade] * _MEMORY + 1
            if guess != token:
                return


class StepTimes:
    """How long calls of so many tokens take, from those that were made."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}

    def took(self, tokens: int, seconds: float) -> None:
        self._seconds.setdefault(tokens, deque(maxlen=_TIMES)).append(seconds)

    def forget(self, least: int) -> None:
        """Of calls of at least so many tokens."""
        self._seconds = {tokens: found for tokens, found in self._seconds.items() if tokens < least}

    def all(self, most: int) -> list[float]:
        """Of each number of tokens from 0 to `most`; seconds, or of a step where none was measured yet."""
        known = {tokens: _low(found) for tokens, found in self._seconds.items()}
        if not known:
            return [0.0, *(1 + _NEXT_ROW * more for more in range(most))]
        first = min(known)
        known.setdefault(1, known[first] / (1 + _NEXT_ROW * (first - 1)))
        times = [0.0] * (most + 1)
        for tokens in range(1, most + 1):
            below = max(number for number in known if number <= tokens)
            above = min((number for number in known if number > tokens), default=0)
            if above:
                each = (known[above] - known[below]) / (above - below)
            else:
                each = (known[below] - known[1]) / (below - 1) if below > 1 else _NEXT_ROW * known[1]
            times[tokens] = known[below] + max(0.0, each) * (tokens - below)
        return times


def _low(seconds: deque[float]) -> float:
    """What a call takes when nothing else keeps the machine busy."""
    return sorted(seconds)[len(seconds) // 4]


class Speculation:
    """Of one runner, which reads `most` tokens in one call."""

    def __init__(self, most: int) -> None:
        self.most, self.times = most, StepTimes()
        self._without = 0  # steps

    def guesses(self, answers: Sequence[Guesses], rooms: Sequence[int]) -> list[list[int]]:
        """For each answer what may follow its last token, no more than it has room for; often nothing.

        `rooms` are for tokens. An empty list where nothing can be guessed at all.
        """
        count = self.most - len(answers)
        if count < 1:
            return []
        found = [
            answer.next(min(count, room)) if room > 0 else (0.0, [])
            for answer, room in zip(answers, rooms, strict=True)
        ]
        # Each guess is worth the probability that it and all before it are right.
        ranked = sorted(
            (
                (share ** (place + 1), number)
                for number, (share, tokens) in enumerate(found)
                for place in range(len(tokens))
            ),
            reverse=True,
        )[:count]
        best = self._pays(len(answers), [worth for worth, _ in ranked])
        taken = [0] * len(answers)
        for _, number in ranked[:best]:
            taken[number] += 1
        return [tokens[:some] for (_, tokens), some in zip(found, taken, strict=True)]

    @contextmanager
    def timed(self, tokens: int) -> Iterator[None]:
        """A call of the runner, for so many tokens."""
        began = time.perf_counter()
        yield
        self.times.took(tokens, time.perf_counter() - began)

    def _pays(self, answers: int, worth: Sequence[float]) -> int:
        """How many guesses make the most of a step's time."""
        if not worth:
            return 0
        times = self.times.all(answers + len(worth))
        plain = best = answers / times[answers]
        count, expected = 0, float(answers)
        for number, more in enumerate(worth, 1):
            expected += more
            pace = expected / times[answers + number]
            if pace > max(best, plain * _WORTH):
                best, count = pace, number
        if count:
            self._without = 0
        elif worth[0] >= _SURE:
            self._without += 1
            if self._without >= _ANEW:  # the machine may have been busy when they were measured
                self._without = 0
                self.times.forget(answers + 1)
        return count
