"""What a processor's vector unit offers, as far as the kernels' shape depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from edge_router.records import dataclass


class Dot(StrEnum):
    """How small integers are multiplied and summed; `FLOAT` where nothing does that quickly."""

    VNNI = "vnni"  # one instruction: a lane's products added to the sum (AVX-512 VNNI, AVX-VNNI)
    PAIRS = "pairs"  # several: products added in pairs (pmaddubsw; pmaddwd, in every x86-64), then the sum
    FLOAT = "float"


@dataclass(frozen=True, slots=True)
class Isa:
    """`lanes` is the number of float32 in one vector register, `registers` how many of those there are.

    `half` says that the hardware converts between float16 and float32, `bytes` that activations
    become signed bytes, which it multiplies by unsigned ones; else they become sixteen-bit integers.
    """

    lanes: int
    registers: int
    dot: Dot
    half: bool = True
    bytes: bool = False

    @classmethod
    def of(cls, machine: str, features: Iterable[str]) -> Isa:
        """`features` in LLVM's or Linux's spelling ("avx512vnni", "avx512_vnni")."""
        if machine == "aarch64":
            return cls(lanes=4, registers=32, dot=Dot.FLOAT)
        has = {name.lower().replace("_", "") for name in features}
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= has:
            return cls(lanes=16, registers=32, dot=Dot.VNNI if "avx512vnni" in has else Dot.PAIRS)
        if {"avx2", "fma", "f16c"} <= has:
            return cls(lanes=8, registers=16, dot=Dot.VNNI if "avxvnni" in has else Dot.PAIRS)
        return cls(lanes=4, registers=16, dot=Dot.PAIRS, half="f16c" in has)

    def with_bytes(self) -> Isa:
        """The same where activations become bytes, if it multiplies those."""
        return replace(self, bytes=self.dot is not Dot.FLOAT and self.lanes >= 8)

    def for_few_rows(self) -> Isa:
        """The same with the finest activations that cost nothing there: with VNNI memory sets the pace."""
        return replace(self, bytes=False) if self.dot is Dot.VNNI else self

    def narrowed(self, width: int) -> Isa:
        """The same with vectors of which `width` is a multiple."""
        lanes = self.lanes
        while width % lanes:
            lanes //= 2
        return replace(self, lanes=lanes)
