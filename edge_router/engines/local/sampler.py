"""From logits to a token: mask, bias, penalties, temperature, top_k, top_p and min_p, in numpy.

One sampler belongs to one answer: it holds the random numbers and what has been said so far.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_router.chat.request import SamplingParams, SignalRequest, TokenMask
from edge_router.engines.local.runner import Logits, TopK
from edge_router.records import dataclass

_BLOCK, _FIRST = 256, np.zeros(1, np.intp)
_LEAST_REACH = 2.0  # logits
_NEGLIGIBLE = 10 * math.log(10)


class NothingToChooseError(ArithmeticError):
    """Of a model whose numbers went wrong, or of a mask; no mistake of the sampler's."""

    def __init__(self) -> None:
        super().__init__("the model's logits are not finite numbers, or no token is allowed")


_GREEDY_BELOW = 1e-5  # dividing float32 logits by less overflows, and nothing but the likeliest is left


@runtime_checkable
class EndingMask(TokenMask, Protocol):
    """One that keeps room for the end of its answer."""

    @property
    def idle(self) -> bool:
        """Whether the next token may be any."""
        ...

    @property
    def thinking(self) -> bool:
        """Whether the next token is one of thoughts before the answer."""
        ...

    def affordable(self, token: int) -> int:
        """`token`, which is allowed, or what comes in its place. `accept` is told of it next."""
        ...


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token, and its and the likeliest tokens' log probabilities where they were asked for.

    They are the model's own: before mask, bias, penalties and temperature. So is `state`, the logits of the
    tokens that are watched, which the first choice has.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    state: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What the model's generation config says, for whatever a request leaves open."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_p: float = 0.0  # of the likeliest token's probability; 0: all

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> SamplingDefaults:
        """From mlc-chat-config.json; what is absent there stays as it is here."""
        found = cls()
        for field in fields(cls):
            value = config.get(field.name)
            if isinstance(value, int | float):
                kind = type(getattr(found, field.name))
                found = replace(found, **{field.name: kind(value)})
        return found

    def for_request(self, params: SamplingParams) -> SamplingDefaults:
        """Without penalties where the likeliest token was asked for: nothing was said of another one."""
        if params.temperature is None or params.temperature >= _GREEDY_BELOW:
            return self
        return replace(self, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)


class Sampler:
    """Chooses one token after the other. Raises `ArithmeticError` when no token can be chosen.

    `vocab_size` is the number of tokens that have a text: models pad their logits beyond it.
    `logprobs` None computes none; n gives each choice its own and the n likeliest, as far as `signals` want.
    """

    def __init__(
        self,
        params: SamplingParams,
        defaults: SamplingDefaults,
        *,
        prompt: Sequence[int],
        vocab_size: int,
        logprobs: int | None = None,
        mask: TokenMask | None = None,
        signals: SignalRequest | None = None,
    ) -> None:
        def chosen(given: float | None, otherwise: float) -> float:
            return otherwise if given is None else given

        defaults = defaults.for_request(params)
        self._temperature = chosen(params.temperature, defaults.temperature)
        self._top_p = chosen(params.top_p, defaults.top_p)
        self._top_k = int(chosen(params.top_k, defaults.top_k))
        self._min_p = chosen(params.min_p, defaults.min_p)
        self._repetition = chosen(params.repetition_penalty, defaults.repetition_penalty)
        self._presence = chosen(params.presence_penalty, defaults.presence_penalty)
        self._frequency = chosen(params.frequency_penalty, defaults.frequency_penalty)
        self._vocab_size, self._logprobs, self._mask = vocab_size, logprobs, mask
        self._ending = mask if isinstance(mask, EndingMask) else None
        self._random = np.random.default_rng(None if params.seed is None else params.seed % 2**64)
        bias = {token: value for token, value in params.logit_bias.items() if 0 <= token < vocab_size}
        self._bias_tokens = np.fromiter(bias.keys(), np.int64, len(bias))
        self._bias_values = np.fromiter(bias.values(), np.float32, len(bias))
        # Only where it is used: it costs memory and time in proportion to the vocabulary.
        self._seen: npt.NDArray[np.bool_] | None = None
        self._said: dict[int, int] | None = None  # how often, of the answer
        if self._repetition != 1.0:
            self._seen = np.zeros(vocab_size, np.bool_)
            known = np.asarray(prompt, np.int64)
            self._seen[known[known < vocab_size]] = True
        if self._presence or self._frequency:
            self._said = {}
        self._reach = 4 * _LEAST_REACH  # of the last `top_k` below the likeliest
        self._unbiased = not bias and self._seen is None and self._said is None
        # Choices with logprobs that are still to come; None: all.
        self._left = signals.tokens if signals is not None and signals.alone else None
        self._state = np.asarray(signals.state, np.int64) if signals is not None and signals.state else None

    @property
    def _plain(self) -> bool:
        """Whether the logits are taken as they are."""
        free = self._mask is None or (self._ending is not None and self._ending.idle)
        return self._unbiased and free

    @property
    def temperature(self) -> float | None:
        """None where the likeliest token is taken."""
        return None if self._temperature < _GREEDY_BELOW else self._temperature

    def needs_all(self, candidates: int, vocab_size: int) -> bool:
        """Whether so many of the likeliest tokens among `vocab_size` can never be enough for it."""
        if not self._plain or self._logprobs_now() is not None or self._state is not None:
            return True
        if vocab_size > self._vocab_size:  # what has no text may be among them
            return True
        few = 0 < self._top_k <= candidates or (self._top_k == 0 and (self._top_p < 1.0 or self._min_p > 0))
        return self.temperature is not None and not few

    def choose_among(self, likeliest: TopK) -> SampledToken | None:
        """What `choose` would; None where it takes more tokens than these to know."""
        tokens, row = likeliest.tokens, likeliest.logits
        if not math.isfinite(row[0]):
            raise NothingToChooseError
        if self.temperature is None:
            return self._chosen(int(tokens[0]))
        weights = np.exp((row - row[0]) / np.float32(self._temperature))
        weights = weights[: self._top_k or None]
        here = float(weights.sum(dtype=np.float64))
        enough = self._top_p * (here if self._top_k else likeliest.total)
        if not self._top_k and weights[-1] >= self._min_p and (self._top_p >= 1.0 or here < enough):
            return None
        if self._top_p < 1.0:
            weights = weights[: _nucleus(weights, enough)]
        weights = weights[weights >= self._min_p]
        return self._chosen(int(tokens[_pick(weights, self._random.random())]))

    def _chosen(self, token: int) -> SampledToken:
        self._remember(token)
        return SampledToken(token)

    def choose(self, logits: Logits) -> SampledToken:
        """`logits` has shape (at least vocab_size,) and is left as it is."""
        logits = logits[: self._vocab_size]
        row = logits if self._plain else self._adjusted(logits)
        token = int(row.argmax()) if self._temperature < _GREEDY_BELOW else self._drawn(row)
        if not math.isfinite(row[token]):  # argmax finds a NaN before anything else
            raise NothingToChooseError
        if self._ending is not None:
            token = self._ending.affordable(token)
        count = self._logprobs_now()
        self._remember(token)
        choice = SampledToken(token) if count is None else _with_logprobs(token, logits, count)
        if self._left is not None and count is not None:
            self._left -= 1
            self._logprobs = self._logprobs if self._left > 0 else None
        if self._state is not None:
            choice, self._state = replace(choice, state=tuple(logits[self._state].tolist())), None
        return choice

    def _logprobs_now(self) -> int | None:
        """Those that only we want begin behind the thoughts."""
        thinking = self._ending is not None and self._ending.thinking
        return None if self._left is not None and thinking else self._logprobs

    def _adjusted(self, logits: Logits) -> Logits:
        row = logits.copy()
        row[self._bias_tokens] += self._bias_values
        if self._seen is not None:
            tokens = self._seen.nonzero()[0]
            values = row[tokens]
            row[tokens] = np.where(values > 0, values / self._repetition, values * self._repetition)
        if self._said:
            tokens = np.fromiter(self._said.keys(), np.int64, len(self._said))
            counts = np.fromiter(self._said.values(), np.float32, len(self._said))
            row[tokens] -= np.float32(self._frequency) * counts + np.float32(self._presence)
        allowed = self._mask.allowed() if self._mask is not None else None
        if allowed is not None:
            row[~allowed] = -np.inf
        return row

    def _drawn(self, row: Logits) -> int:
        highest = row.max()
        if not math.isfinite(highest):
            raise NothingToChooseError
        # What weighs less than 1e-10 of the likeliest is left out: together that is at most 1e-5 of all. It
        # leaves some thousand tokens, and no exp of -90, whose result takes 100 times as long.
        least = highest - _NEGLIGIBLE * self._temperature
        if self._top_k > 0:
            tokens, row = self._likeliest(row, highest, least)
        else:
            tokens = (row >= least).nonzero()[0]
            row = row.take(tokens)
        weights = np.exp((row - highest) / np.float32(self._temperature))
        if self._top_p < 1.0:
            total = float(weights.sum(dtype=np.float64))
            if not self._top_k > 0:
                # All tokens below this share weigh less than 1 - top_p together, so none of them is in the
                # nucleus and only the few above it need to be sorted. 0.999: rounding must not empty the set.
                tokens, weights = _falling(tokens, weights, 0.999 * (1.0 - self._top_p) * total / len(row))
            weights = weights[: _nucleus(weights, self._top_p * total)]
        if self._min_p > 0:
            if self._top_k > 0 or self._top_p < 1.0:  # they fall already
                weights = weights[: int((weights >= self._min_p).sum())]
            else:
                tokens, weights = _falling(tokens, weights, self._min_p)
        return int(tokens[_pick(weights, self._random.random())])

    def _likeliest(self, row: Logits, highest: float, least: float) -> tuple[npt.NDArray[np.int64], Logits]:
        """At most `top_k` tokens of at least `least`, and their logits, which fall.

        In this order, so that a seed draws the same whoever has looked for them. How far below the likeliest
        they reach changes little from token to token, so that the last reach tells where to look.
        """
        bound = max(least, highest - self._reach)
        above = row >= bound
        while bound > least and int(np.count_nonzero(above)) < self._top_k:
            self._reach = 2 * self._reach
            bound = max(least, highest - self._reach)
            above = row >= bound
        tokens = above.nonzero()[0]
        found = row.take(tokens)
        order = np.argsort(-found, kind="stable")[: self._top_k]
        tokens, found = tokens.take(order), found.take(order)
        self._reach = max(1.25 * float(highest - found[-1]), _LEAST_REACH)
        return tokens, found

    def _remember(self, token: int) -> None:
        if self._seen is not None:
            self._seen[token] = True
        if self._said is not None:
            self._said[token] = self._said.get(token, 0) + 1
        if self._mask is not None:
            self._mask.accept(token)


def _falling(
    tokens: npt.NDArray[np.int64], weights: Logits, least: float
) -> tuple[npt.NDArray[np.int64], Logits]:
    """Those that weigh at least so much, the heaviest first."""
    likely = (weights >= least).nonzero()[0]
    some = weights.take(likely)
    order = np.argsort(-some, kind="stable")
    return tokens.take(likely.take(order)), some.take(order)


def _nucleus(weights: Logits, enough: float) -> int:
    """How many of `weights`, which fall, it takes to come to `enough`."""
    return int(weights.cumsum(dtype=np.float64).searchsorted(enough)) + 1


def _pick(weights: Logits, uniform: float) -> int:
    """An index, drawn in proportion to `weights`, by the inverse of their running sum.

    In two steps, blocks and then one block's inside: a running sum over a whole vocabulary takes 0.5 ms.
    """
    if len(weights) <= _BLOCK:
        return _inside(weights, uniform * float(np.add.reduceat(weights, _FIRST)[0]))
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).cumsum(dtype=np.float64)
    point = uniform * sums[-1]
    block = min(int(sums.searchsorted(point, side="right")), len(sums) - 1)
    rest = point - (sums[block - 1] if block else 0.0)
    return block * _BLOCK + _inside(weights[block * _BLOCK : (block + 1) * _BLOCK], rest)


def _inside(weights: Logits, point: float) -> int:
    sums = weights.cumsum(dtype=np.float64).tolist()
    # A point that rounding pushes out of its block belongs to the last token there that can come at all.
    return min(bisect_right(sums, point), bisect_left(sums, sums[-1]))


def _with_logprobs(token: int, logits: Logits, count: int) -> SampledToken:
    highest = logits.max()
    normalizer = float(highest) + math.log(float(np.exp(logits - highest).sum(dtype=np.float64)))
    count = min(count, len(logits))
    best = np.argpartition(logits, -count)[-count:] if count else np.empty(0, np.int64)
    best = best[np.argsort(-logits[best], kind="stable")]
    return SampledToken(
        token,
        float(logits[token]) - normalizer,
        tuple((int(other), float(logits[other]) - normalizer) for other in best),
    )
