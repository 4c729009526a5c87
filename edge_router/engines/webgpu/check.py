"""Does this GPU compute what it should? Each shader once, on the model's own weights, against numpy.

Drivers have mistakes, and a wrong one answers fluently. A few tokens go through the model launch by launch;
after each launch of a shader that was not seen yet, what it read is read back and computed again here, for a
few rows of the large matrices. TVM's kernels are held against ours: one token more must say the same whether
it came with the prompt or after it. What is chosen from logits is held against the logits themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.engines.webgpu import arithmetic
from edge_router.engines.webgpu.executor import Executor, ReadBuffer, control_words
from edge_router.records import dataclass
from edge_router.webgpu_program import CANDIDATES, FEW_ROWS, PAGE_SIZE, ROW_WORDS, Launch, Program, Windows

TOKENS = PAGE_SIZE + 4  # so that there are two pages
_CLOSE = 2e-3  # of the largest number, for float32 sums in another order
_CLOSE_CACHED = 1e-2  # where the KV cache's float16 comes in
_CLOSE_LOGITS = 2e-2  # the same, through all layers
_CLOSE_HALF = 4e-2  # with float16 arithmetic


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`off` as a share of the largest number that was expected."""

    shader: str
    off: float

    def __str__(self) -> str:
        return f"{self.shader} is off by {self.off:.1%}"


def mismatches(executor: Executor, program: Program, windows: Windows) -> list[Mismatch]:
    """Leaves something in the first pages of the KV cache; nobody else may use it meanwhile."""
    count = min(TOKENS, windows.chunk, windows.context - 1)
    if count < 1:
        return []
    return _Check(executor, program, windows).run(count)


class _Check:
    def __init__(self, executor: Executor, program: Program, windows: Windows) -> None:
        self._executor, self._program, self._windows = executor, program, windows
        self._seen: set[str] = set()
        self._found: list[Mismatch] = []
        self._rows: npt.NDArray[np.uint32] = np.zeros((0, ROW_WORDS), np.uint32)
        self._pages = list(range(windows.pages_per_sequence))

    def run(self, count: int) -> list[Mismatch]:
        tokens = [(7919 * place + 1) % self._program.vocab_size for place in range(count + 1)]
        self._executor.write_control(np.asarray(self._pages, np.uint32), control_words(self._windows))
        self._pass("prefill", tokens[:count], 0)
        after = self._pass("decode", tokens[count:], count)
        self._choices()
        far = self._pass("decode_far", tokens[count:], count)
        self._compare("decode_far beside decode", far, after, _CLOSE_LOGITS)
        if self._windows.sequences > 1:
            self._pass("batch", [tokens[count], tokens[0]], count)
        if count + 1 <= self._windows.chunk:
            self._compare("decode beside prefill", self._pass("prefill", tokens, 0), after, _CLOSE_LOGITS)
        if self._executor.has("prefill_half"):
            half = self._pass("prefill_half", tokens[:count], 0)
            self._compare(
                "prefill_half beside prefill", half, self._pass("prefill", tokens[:count], 0), _CLOSE_HALF
            )
        few = min(FEW_ROWS, count)
        self._pass("prefill_few", tokens[:few], 0)
        return self._found

    def _pass(self, function: str, tokens: list[int], begin: int) -> npt.NDArray[np.float32]:
        rows = np.zeros((len(tokens), ROW_WORDS), np.uint32)
        rows[:, 0] = tokens
        # Rows that decode together stand for sequences with the same past: none sees the other.
        rows[:, 1] = begin if function == "batch" else np.arange(begin, begin + len(tokens))
        rows[:, 2] = control_words(self._windows)
        self._rows = rows
        self._executor.write_control(rows, 0)
        return self._executor.run_watched(function, len(tokens), self._is_new, self._watch).copy()

    def _choices(self) -> None:
        """Of the token that was decoded last."""
        self._rows[:, 3] = np.float32(1).view(np.uint32)  # the temperature
        found = {}
        for pick in ("best", "likeliest"):
            self._executor.write_control(self._rows, 0)
            found[pick] = self._executor.choose("decode", 1, pick)[0]
        logits = self._executor.logits(1)[0, : self._executor.tokens]
        at = 2 * (int(self._rows[0, 1]) % PAGE_SIZE)
        best, likeliest = found["best"][at : at + 2], found["likeliest"][: 2 * CANDIDATES]
        self._compare("best", self._said(best[:1], best[1:], logits), logits.max(), _CLOSE)
        count = min(CANDIDATES, len(logits))
        tokens, said = likeliest[:count], likeliest[CANDIDATES : CANDIDATES + count]
        wanted = -np.sort(-logits)[:count]
        self._compare("likeliest", self._said(tokens, said, logits), wanted, _CLOSE)
        total = found["likeliest"][2 * CANDIDATES : 2 * CANDIDATES + 1].view(np.float32)
        self._compare("likeliest", total, np.exp(logits - logits.max()).sum(), _CLOSE)

    def _said(self, tokens: Any, values: Any, logits: Any) -> Any:
        """The logits that were said of these tokens, where they are theirs; else what can't be."""
        if (tokens >= len(logits)).any() or (logits[tokens] != values.view(np.float32)).any():
            return np.full(len(tokens), np.nan)
        return logits[tokens]

    def _is_new(self, launch: Launch) -> bool:
        about = self._program.shaders[launch.shader].about
        return launch.shader not in self._seen and about.get("op") in arithmetic.OPERATIONS

    def _watch(self, launch: Launch, read: ReadBuffer) -> None:
        self._seen.add(launch.shader)
        about = self._program.shaders[launch.shader].about
        reader = arithmetic.BufferReader(launch, read, self._rows, self._pages)
        for found, expected in arithmetic.OPERATIONS[str(about["op"])](reader, about):
            close = _CLOSE if about["op"] in ("product", "take") else _CLOSE_CACHED
            close = _CLOSE_HALF if self._program.shaders[launch.shader].float16 else close
            self._compare(launch.shader, found, expected, close)

    def _compare(self, name: str, found: Any, expected: Any, close: float) -> None:
        largest = float(np.abs(expected).max())
        off = float(np.abs(found - expected).max())
        if not off <= close * largest + 1e-6:  # also where it is not a number
            self._found.append(Mismatch(name, off / largest if largest else float("inf")))
