"""How a matrix lies in memory, in the terms of the kernels that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_router.architectures.quantization import DType, Kind, Quantization
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.compile.kernels.ir import Buffer, Kernel

WORDS = 4  # uint32 words of a group, in every format


@dataclass(frozen=True, slots=True)
class Stored:
    """MLC's: `bits` None for plain numbers of `dtype`, else that is the scales'.

    Of a group of `group` numbers along a row `per_word` lie in each word, lowest first, and mean
    (code - `offset`) * scale; the last group of a row is filled up. `transposed`: inputs before outputs.
    """

    dtype: DType = "float16"
    bits: int | None = 4
    group: int = 32
    transposed: bool = False

    @classmethod
    def of(cls, form: Quantization, kind: Kind) -> Stored:
        """Of a parameter of this kind. The embedding is never transposed: its rows are looked up."""
        if not form.quantizes(kind):
            return cls(form.dtype, None, 1)
        return cls(form.dtype, form.bits, form.group, form.transposed and kind != "embedding")

    @property
    def per_word(self) -> int:
        return 1 if self.bits is None else self.group // WORDS

    @property
    def offset(self) -> int:
        """The code that means zero."""
        assert self.bits is not None
        return (1 << (self.bits - 1)) - 1

    def groups(self, inputs: int) -> int:
        return -(-inputs // self.group)

    def padded(self, inputs: int) -> int:
        """Numbers of a row, those that fill it up included."""
        return self.groups(inputs) * self.group

    def arrays(self, outputs: int, inputs: int) -> Mapping[str, tuple[tuple[int, int], str]]:
        """Shape and type of what is stored, under the last words of its parameters' names."""
        if self.bits is None:
            return {"weight": ((outputs, inputs), self.dtype)}
        groups = self.groups(inputs)
        found = {
            "q_weight": ((outputs, WORDS * groups), "uint32"),
            "q_scale": ((outputs, groups), self.dtype),
        }
        if self.transposed:
            return {name: (shape[::-1], dtype) for name, (shape, dtype) in found.items()}
        return found


@dataclass(frozen=True, slots=True)
class Matrix:
    """A kernel's arguments that hold one. Plain numbers have no `scales`."""

    stored: Stored
    inputs: int
    weights: Buffer
    scales: Buffer | None

    @classmethod
    def argument(cls, k: Kernel, stored: Stored, outputs: int, inputs: int) -> Matrix:
        buffers = [k.tensor(name, *array) for name, array in stored.arrays(outputs, inputs).items()]
        return cls(stored, inputs, buffers[0], buffers[1] if len(buffers) > 1 else None)

    @property
    def groups(self) -> int:
        return self.stored.groups(self.inputs)

    @property
    def padded(self) -> int:
        return self.stored.padded(self.inputs)
