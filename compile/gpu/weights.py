"""Weights as they are stored, and as numbers: by units, of which a thread reads one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from edge_router.compile.gpu.arithmetic import to_float
from edge_router.compile.gpu.threads import f32, register
from edge_router.compile.kernels.ir import Expr, bits, load, pick
from edge_router.compile.kernels.stored import WORDS, Matrix, Stored
from edge_router.records import dataclass

# (row, column, the sums for it, one of each block of the matrix): writes a result
Finish = Callable[[Expr, Expr, Sequence[Expr]], None]

PLAIN = 4  # numbers of a unit where weights are not quantized
_ONE = 0x4B000000  # the float32 2**23, to whose lowest bits codes are added: no conversion is needed
_MANTISSA = 23


@dataclass(frozen=True, slots=True)
class Units:
    """A matrix as rows of units: a word of codes with its scale, or `PLAIN` numbers."""

    matrix: Matrix

    @property
    def each(self) -> int:
        """Numbers of a unit."""
        stored = self.matrix.stored
        return PLAIN if stored.bits is None else stored.per_word

    @property
    def count(self) -> int:
        """Units of a row; the last may go beyond what is read."""
        if self.matrix.stored.bits is None:
            return -(-self.matrix.inputs // PLAIN)
        return self.matrix.groups * WORDS

    @property
    def whole(self) -> bool:
        """Whether no unit goes beyond the row's end."""
        return self.count * self.each == self.matrix.inputs

    def fetch(self, row: Expr, unit: Expr) -> tuple[Expr, Expr | None]:
        """What is stored, and its scale."""
        matrix, group = self.matrix, unit // WORDS
        if matrix.scales is None:
            return register(load(matrix.weights, row, unit * PLAIN, lanes=PLAIN)), None
        places = ((unit, row), (group, row)) if matrix.stored.transposed else ((row, unit), (row, group))
        word, scale = load(matrix.weights, *places[0]), load(matrix.scales, *places[1])
        return register(word), register(to_float(scale))

    def numbers(self, held: Expr) -> list[tuple[Expr, float]]:
        """Of what was fetched, each with a power of two by which it is still to be multiplied; not scaled."""
        stored = self.matrix.stored
        if stored.bits is None:
            return [(to_float(pick([held], [i])), 1.0) for i in range(PLAIN)]
        return [self._number(stored, *place) for place in self._places(stored, held)]

    def _places(self, stored: Stored, word: Expr) -> list[tuple[Expr, int]]:
        """Where each code lies. Those of the upper half are moved down, so that all lie within a mantissa."""
        assert stored.bits is not None
        half = self.each // 2
        assert stored.bits * half <= _MANTISSA
        moved = register(tirx.shift_right(word, tirx.const(stored.bits * half, "uint32")))
        return [(place, stored.bits * i) for place in (word, moved) for i in range(half)]

    @staticmethod
    def _number(stored: Stored, word: Expr, shift: int) -> tuple[Expr, float]:
        assert stored.bits is not None
        mask = ((1 << stored.bits) - 1) << shift
        code = tirx.bitwise_or(tirx.bitwise_and(word, _word(mask)), _word(_ONE))
        return bits(code, "float32") - f32(float((1 << _MANTISSA) + (stored.offset << shift))), 0.5**shift


def _word(value: int) -> Expr:
    return tirx.const(value, "uint32")
