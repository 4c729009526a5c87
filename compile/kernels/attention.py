"""What the attention kernels share: the runtime's calling convention, and keys and values found in pages.

Softmax is taken in base 2 and online (running maximum and sum), everything in float32. The scale of the
scores and log2(e) are multiplied into the queries once. Each kernel also returns the base-2 logarithm of
its softmax sum, with which the runtime merges the answers of several kernels.

The arguments' order and shapes are those of TVM's own kernels (tvm.relax.frontend.nn.llm), because TVM's
runtime calls them.
"""

from __future__ import annotations

from typing import Protocol

from tvm import tirx

from edge_router.architectures.key_values import SCALE_BYTES
from edge_router.compile.kernels.ir import Buffer, Expr, Kernel, bind, bits, load, prefetch
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import LOG2_E, capped, to_float
from edge_router.records import dataclass

LINE = 64 * 8  # bits of memory that are fetched together


def softcap(heads: Heads, scores: Expr) -> Expr:
    """Scores as they are summed (in base 2), bent to the heads' cap."""
    return capped(scores, heads.cap * LOG2_E) if heads.cap else scores


class Source(Protocol):
    """Where keys and values of one sequence and one head lie."""

    def key(self, token: Expr, channel: Expr, lanes: int) -> Expr: ...

    def value(self, token: Expr, channel: Expr, lanes: int) -> Expr: ...

    def scale(self, isa: Isa, which: int, token: Expr) -> Expr | None:
        """What the numbers of a token's key (0) or value (1) are multiplied by; None: by nothing."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Tokens of this call, from `start` on: keys and values [tokens, heads, channels]."""

    keys: Buffer
    values: Buffer
    start: Expr
    head: Expr

    def key(self, token: Expr, channel: Expr, lanes: int) -> Expr:
        return load(self.keys, self.start + token, self.head, channel, lanes=lanes)

    def value(self, token: Expr, channel: Expr, lanes: int) -> Expr:
        return load(self.values, self.start + token, self.head, channel, lanes=lanes)

    def scale(self, isa: Isa, which: int, token: Expr) -> None:
        return None


@dataclass(frozen=True, slots=True)
class OnePage:
    """A page's keys and values of one head: [.., key or value, head, place, channel], found by `number`."""

    pages: Buffer
    number: tuple[Expr, ...]
    head: Expr

    def key(self, place: Expr, channel: Expr, lanes: int) -> Expr:
        return load(self.pages, *self.number, 0, self.head, place, channel, lanes=lanes)

    def value(self, place: Expr, channel: Expr, lanes: int) -> Expr:
        return load(self.pages, *self.number, 1, self.head, place, channel, lanes=lanes)

    def scales(self, isa: Isa, which: int, place: Expr, lanes: int = 1) -> Expr | None:
        """Of keys (0) or values (1) from a place on, what their numbers are multiplied by; None: by nothing."""
        return None

    def fetch(self, which: int, place: Expr) -> None:
        """Ask for the key (0) or the value (1) of a place."""
        *_, channels = self.pages.shape
        for channel in range(0, int(channels), LINE // self.pages.dtype.bits):
            prefetch(self.pages, *self.number, which, self.head, place, channel)


@dataclass(frozen=True, slots=True)
class RoundedPage:
    """The same in bytes: [.., key or value, head, place * channel], and behind them the places' scales."""

    pages: Buffer
    number: tuple[Expr, ...]
    head: Expr
    size: int

    def key(self, place: Expr, channel: Expr, lanes: int) -> Expr:
        return self._bytes(0, place * self.size + channel, lanes)

    def value(self, place: Expr, channel: Expr, lanes: int) -> Expr:
        return self._bytes(1, place * self.size + channel, lanes)

    def scales(self, isa: Isa, which: int, place: Expr, lanes: int = 1) -> Expr | None:
        found = self._bytes(which, PAGE * self.size + place * SCALE_BYTES, SCALE_BYTES * lanes)
        return to_float(isa, bits(found, "float16" if lanes == 1 else f"float16x{lanes}"))

    def fetch(self, which: int, place: Expr) -> None:
        for channel in range(0, self.size, LINE // 8):
            prefetch(self.pages, *self.number, which, self.head, place * self.size + channel)

    def _bytes(self, which: int, at: Expr, lanes: int) -> Expr:
        return load(self.pages, *self.number, which, self.head, at, lanes=lanes)


Page = OnePage | RoundedPage


class Pages(Source, Protocol):
    """A source that lies in pages."""

    def page(self, token: Expr) -> Page: ...


@dataclass(frozen=True, slots=True)
class Paged:
    """Tokens kept in pages [page, key or value, head, place, channel], whose numbers start at `first`."""

    pages: Buffer
    numbers: Buffer
    first: Expr
    head: Expr

    def page(self, token: Expr) -> OnePage:
        number = load(self.numbers, self.first + token // PAGE)
        return OnePage(self.pages, (number,), self.head)

    def key(self, token: Expr, channel: Expr, lanes: int) -> Expr:
        return self.page(token).key(token % PAGE, channel, lanes)

    def value(self, token: Expr, channel: Expr, lanes: int) -> Expr:
        return self.page(token).value(token % PAGE, channel, lanes)

    def scale(self, isa: Isa, which: int, token: Expr) -> None:
        return None


class Arguments:
    """The arguments as the runtime passes them. Make the parts in the order in which the kernel lists them."""

    def __init__(self, k: Kernel, heads: Heads) -> None:
        self._k, self._heads = k, heads
        self.batch, self.tokens = k.size(32), k.size(32)

    def queries(self, *, one_each: bool = False) -> Buffer:
        """[tokens, query heads, channels]; `one_each` for decoding, where tokens are sequences."""
        rows = self.batch if one_each else self.tokens
        return self._k.tensor("q", (rows, self._heads.query, self._heads.size), self._heads.dtype)

    def keys(self, name: str, tokens: Expr) -> Buffer:
        return self._k.tensor(name, (tokens, self._heads.key_value, self._heads.size), self._heads.dtype)

    def pages(self) -> Buffer:
        shape = (self._k.size(32), 2, self._heads.key_value, PAGE, self._heads.size)
        return self._k.tensor("pages", shape, self._heads.dtype, offset=self._k.size())

    def starts(self, name: str) -> Buffer:
        """[sequences + 1]: where each sequence starts in what is laid end to end."""
        return self._k.tensor(name, (self.batch + 1,), "int32", offset=self._k.size(32))

    def integers(self, name: str, count: Expr) -> Buffer:
        return self._k.tensor(name, (count,), "int32", offset=self._k.size(32))

    def results(self, *, one_each: bool = False) -> tuple[Buffer, Buffer]:
        """The output [tokens, query heads, channels] and the softmax sums' logarithms [tokens, query heads]."""
        rows = self.batch if one_each else self.tokens
        output = self._k.tensor("output", (rows, self._heads.query, self._heads.size), self._heads.dtype)
        return output, self._k.tensor("lse", (rows, self._heads.query))

    def rotary(self) -> Expr:
        """The three arguments for rotating inside the kernel, then the scores' scale, which is returned."""
        self._k.scalar("rotary_mode", "int32")
        self._k.scalar("rope_scale", "float32")
        self._k.scalar("rope_theta", "float32")
        return self._k.scalar("sm_scale", "float32")


def cached_tokens(starts: Buffer, last_page: Buffer, sequence: Expr) -> tuple[Expr, Expr]:
    """A sequence's first place in the list of page numbers, and how many of its tokens are in the cache."""
    first, end = bind(load(starts, sequence)), bind(load(starts, sequence + 1))
    full = (end - first - 1) * PAGE + load(last_page, sequence)
    return first, bind(tirx.if_then_else(end > first, full, 0))


def earliest(heads: Heads, scale: Expr, position: Expr, start: Expr) -> Expr:
    """The first token that a query at `position` sees, counted from `start`, which is the position of a token 0."""
    behind = position - (heads.window - 1) - start
    return bind(tirx.if_then_else(scale < 0, behind, -(1 << 30)))
