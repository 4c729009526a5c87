"""What our shaders compute, in numpy: slow, and for a few rows only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.engines.webgpu.executor import ReadBuffer
from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE, Launch

Floats = npt.NDArray[np.float64]
Pairs = Iterator[tuple[npt.NDArray[Any], Floats]]  # what was found, what was expected
_SAMPLE = 16  # rows of a matrix, half of them its first, half its last
_GROUP = 32


@dataclass(frozen=True, slots=True)
class BufferReader:
    """The buffers of one launch. `rows` as the control buffer has them, all with the same `pages`."""

    launch: Launch
    read: ReadBuffer
    rows: npt.NDArray[np.uint32]
    pages: Sequence[int]

    @property
    def n(self) -> int:
        return len(self.rows)

    def floats(self, number: int, *shape: int) -> Floats:
        raw = self.read(self.launch.buffers[number], 0, int(np.prod(shape)) * 4)
        return raw.view(np.float32).reshape(shape).astype(np.float64)

    def weights(self, number: int, rows: Sequence[int], columns: int) -> Floats:
        """Rows of a matrix in q4f16_1, whose words are buffer `number` and scales the next."""
        return np.stack([self._weight_row(number, row, columns) for row in rows])

    def cached(self, number: int, tokens: int, about: Mapping[str, Any]) -> Floats:
        """Keys (buffer 3 of every launch) or values of the first tokens, shape (tokens, heads, size)."""
        if about.get("eight"):
            return self._cached_in_bytes(number, tokens, about)
        heads, half = about["key"], about["size"] // 2
        page_bytes = PAGE_SIZE * heads * half * 4
        found = []
        for page in self.pages[: -(-tokens // PAGE_SIZE)]:
            words = self.read(self.launch.buffers[number], page * page_bytes, page_bytes).view(np.float16)
            found.append(words.astype(np.float64))
        shape = (heads, half, PAGE_SIZE, 2) if self._holds_keys(number) else (heads, PAGE_SIZE, half, 2)
        order = (2, 0, 1, 3) if self._holds_keys(number) else (1, 0, 2, 3)
        pages = [page.reshape(shape).transpose(order).reshape(PAGE_SIZE, heads, -1) for page in found]
        return np.concatenate(pages)[:tokens]

    def _cached_in_bytes(self, number: int, tokens: int, about: Mapping[str, Any]) -> Floats:
        """Four numbers to a word, and one word more: what they are multiplied by."""
        heads, each = about["key"], about["size"] // 4 + 1
        page_bytes, found = PAGE_SIZE * heads * each * 4, []
        for page in self.pages[: -(-tokens // PAGE_SIZE)]:
            words = self.read(self.launch.buffers[number], page * page_bytes, page_bytes).view(np.uint32)
            if self._holds_keys(number):
                words = words.reshape(heads, each, PAGE_SIZE).swapaxes(1, 2)
            words = np.ascontiguousarray(words.reshape(heads, PAGE_SIZE, each).swapaxes(0, 1))
            codes = np.ascontiguousarray(words[..., :-1]).view(np.int8).astype(np.float64)
            found.append(codes / 127 * np.ascontiguousarray(words[..., -1:]).view(np.float32))
        return np.concatenate(found)[:tokens]

    def _holds_keys(self, number: int) -> bool:
        return self.launch.buffers[number].endswith("keys")

    def _weight_row(self, number: int, row: int, columns: int) -> Floats:
        words, scales = self.launch.buffers[number : number + 2]
        packed = self.read(words, row * columns // 2, columns // 2)
        codes = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1).astype(np.float64)
        groups = columns // _GROUP
        start = row * groups * 2
        raw = self.read(scales, start // 4 * 4, (start % 4 + groups * 2 + 3) // 4 * 4)
        values = raw[start % 4 : start % 4 + groups * 2].view(np.float16).astype(np.float64)
        return (codes - 7) * np.repeat(values, _GROUP)


def product(reader: BufferReader, about: Mapping[str, Any]) -> Pairs:
    """y = x W^T and what surrounds it, in a few columns of the first and the last row."""
    inputs, outputs, first = about["inputs"], about["outputs"], about["first"]
    n = reader.n if "rows" in about else 1  # a tile's, which only shaders for many rows have
    ends, columns = ([0] if n == 1 else [0, n - 1]), _sample(outputs)
    places, width = [first + column for column in columns], about.get("stride") or outputs + first
    x, at = reader.floats(0, n, inputs)[ends], 1
    if about["norm"] is not None:
        x = x * reader.floats(1, inputs) / np.sqrt((x**2).mean(-1, keepdims=True) + about["norm"])
        at = 2
    y = x @ reader.weights(at, columns, inputs).T
    if about["gate"]:
        up = x @ reader.weights(at, [outputs + column for column in columns], inputs).T
        y = _GATES[about["gate"]](y) * up
    at += 2
    if about["bias"]:
        y = y + reader.floats(at, first + outputs)[places]
        at += 1
    if about["residual"]:
        y = y + reader.floats(at, n, width)[ends][:, places]
        at += 1
    yield reader.floats(at, n, width)[ends][:, places], y


def take(reader: BufferReader, about: Mapping[str, Any]) -> Pairs:
    first, columns = about["first"], about["columns"]
    own = [number for number in range(reader.n) if first <= reader.rows[number, 0] < first + about["rows"]]
    if own:
        wanted = [int(reader.rows[number, 0]) - first for number in own]
        found = reader.floats(3, reader.n, columns)[own]
        yield found, reader.weights(1, wanted, columns) * about["factor"]


def append(reader: BufferReader, about: Mapping[str, Any]) -> Pairs:
    query, _, key, value = _turned(reader, about)
    output = 7 if about["norm"] is not None else 5
    yield reader.floats(output, reader.n, about["query"], about["size"]), query
    first, tokens = int(reader.rows[0, 1]), int(reader.rows[-1, 1]) + 1
    yield reader.cached(3, tokens, about)[first:], key
    yield reader.cached(4, tokens, about)[first:], value


def attend_many(reader: BufferReader, about: Mapping[str, Any]) -> Pairs:
    copies = 2 if about["sinks"] else 1
    queries, far = reader.floats(1, copies, reader.n, about["query"], about["size"])[[0, -1]]
    tokens = int(reader.rows[-1, 1]) + 1
    keys, values = reader.cached(2, tokens, about), reader.cached(3, tokens, about)
    yield (
        reader.floats(4, reader.n, about["query"], about["size"]),
        _attention(about, reader.rows[:, 1].astype(int), queries, far, keys, values),
    )


def attend_one(reader: BufferReader, about: Mapping[str, Any]) -> Pairs:
    if about["splits"] > 1:  # parts of sums, which `combine` puts together
        return
    query, far, key, value = _turned(reader, about)
    place = int(reader.rows[0, 1])  # of every row; each sees its own key behind the past
    past = [reader.cached(number, place, about) for number in (3, 4)] if place else [key[:0], value[:0]]
    found = reader.floats(7 if about["norm"] is not None else 5, reader.n, about["query"], about["size"])
    for row in range(reader.n):
        one = slice(row, row + 1)
        keys, values = (np.concatenate([old, new[one]]) for old, new in zip(past, (key, value), strict=True))
        places = reader.rows[one, 1].astype(int)
        yield found[one], _attention(about, places, query[one], far[one], keys, values)


def _turned(reader: BufferReader, about: Mapping[str, Any]) -> tuple[Floats, Floats, Floats, Floats]:
    """Queries, those for the sinks, keys and values of the launch's rows, as attention uses them."""
    heads, shared, size = about["query"], about["key"], about["size"]
    qkv = reader.floats(1, reader.n, heads + 2 * shared, size)
    query, key, value = np.split(qkv, [heads, heads + shared], axis=1)
    if about["norm"] is not None:
        query, key = (
            part * reader.floats(number, size) / np.sqrt((part**2).mean(-1, keepdims=True) + about["norm"])
            for number, part in ((5, query), (6, key))
        )
    turned = about["turned"] or size
    places = reader.rows[:, 1].astype(int)
    table = reader.floats(2, int(places.max()) + 1, turned)

    def turn(part: Floats, places: npt.NDArray[Any]) -> Floats:
        cosine, sine = np.split(table[places][:, None], 2, axis=-1)
        one, other, rest = np.split(part, [turned // 2, turned], axis=-1)
        return np.concatenate([one * cosine - other * sine, other * cosine + one * sine, rest], axis=-1)

    near = np.minimum(places, about["window"] + about["sinks"] - 1) if about["sinks"] else places
    return turn(query, places), turn(query, near), turn(key, places), value


def _attention(
    about: Mapping[str, Any],
    places: npt.NDArray[Any],
    queries: Floats,
    far: Floats,
    keys: Floats,
    values: Floats,
) -> Floats:
    """`far`: the queries for the sinks."""
    keys, values = (np.repeat(part, about["query"] // about["key"], axis=1) for part in (keys, values))
    scores = np.einsum("nhd,thd->nht", queries, keys)
    scores[..., : about["sinks"]] = np.einsum("nhd,thd->nht", far, keys[: about["sinks"]])
    scores = scores * about["scale"]
    if about["cap"] is not None:
        scores = about["cap"] * np.tanh(scores / about["cap"])
    tokens = np.arange(len(keys))
    seen = tokens <= places[:, None]
    if about["window"]:
        seen &= (tokens + about["window"] > places[:, None]) | (tokens < about["sinks"])
    scores = np.where(seen[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed: Floats = np.einsum("nht,thd->nhd", weights / weights.sum(-1, keepdims=True), values)
    return mixed


def _sample(rows: int) -> list[int]:
    half = _SAMPLE // 2
    return list(range(rows)) if rows <= _SAMPLE else [*range(half), *range(rows - half, rows)]


def _silu(x: Floats) -> Floats:
    gated: Floats = x / (1 + np.exp(-x))
    return gated


def _gelu_tanh(x: Floats) -> Floats:
    gated: Floats = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return gated


_GATES: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType({"silu": _silu, "gelu_tanh": _gelu_tanh})
OPERATIONS: Mapping[str, Callable[[BufferReader, Mapping[str, Any]], Pairs]] = MappingProxyType(
    {
        "product": product,
        "take": take,
        "append": append,
        "attend_many": attend_many,
        "attend_one": attend_one,
    }
)
