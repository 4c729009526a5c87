"""What is measured of each program: prompts that are read and answers that are written, one or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

DECODED = 64  # tokens of each answer; llama-bench's own number is 128


@dataclass(frozen=True, slots=True)
class BenchCase:
    """`length`: tokens of each prompt, or those that lie before the answer; `batch`: how many at once."""

    kind: Literal["prefill", "decode"]
    length: int
    batch: int = 1

    @property
    def name(self) -> str:
        told = f"prefill {self.length}" if self.kind == "prefill" else f"decode at {self.length}"
        return told if self.batch == 1 else f"{told}, {self.batch} at once"

    @property
    def tokens(self) -> int:
        """That are counted, of all prompts or answers together."""
        return self.batch * (self.length if self.kind == "prefill" else DECODED)

    @property
    def context(self) -> int:
        """Tokens that each holds at the end."""
        return self.length + (0 if self.kind == "prefill" else DECODED)


@dataclass(frozen=True, slots=True)
class Grid:
    prefill: tuple[int, ...] = (128, 256, 512, 2048)
    depths: tuple[int, ...] = (0, 1024, 4096)
    batches: tuple[int, ...] = (1, 4)

    def cases(self) -> Iterator[BenchCase]:
        for batch in self.batches:
            for length in self.prefill:
                yield BenchCase("prefill", length, batch)
            for depth in self.depths:
                yield BenchCase("decode", depth, batch)

    @property
    def context(self) -> int:
        return max(case.context for case in self.cases())


SMALL = Grid((128, 256, 512), (0, 1024), (1,))


class Side(Protocol):
    """A program with one model, at a number of threads of its own."""

    def speed(self, case: BenchCase) -> float | None:
        """Tokens per second; None where this program has no way to do it. Raises `GenerationFailed`."""
        ...
