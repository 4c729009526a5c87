"""MLC's quantization formats: what is stored for a tensor, and how many bytes that takes.

A quantized row is cut into groups that share a scale; its numbers are packed into 32-bit words, low bits
first. The last group of a row is filled up. Source: mlc-llm, python/mlc_llm/quantization.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from edge_router.errors import UnknownName
from edge_router.records import dataclass

Kind = Literal["linear", "embedding", "head", "vector", "router"]
DType = Literal["float16", "bfloat16", "float32"]

WORD_BYTES = 4
DTYPE_BYTES: Mapping[DType, int] = MappingProxyType({"float16": 2, "bfloat16": 2, "float32": 4})


@dataclass(frozen=True, slots=True)
class Quantization:
    """`bits` is None where nothing is quantized. `tables`: the embedding and the final layer are, too.

    `dtype` is that of scales, of whatever is not quantized, of activations and of the KV cache. `transposed`
    formats ("_0") store linear layers with inputs before outputs, which takes the same bytes.
    """

    name: str
    dtype: DType
    bits: int | None = None
    group: int = 32  # numbers that share a scale
    tables: bool = True
    transposed: bool = False

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def bits_per_weight(self) -> float:
        """Of a quantized tensor, the scales counted in."""
        if self.bits is None:
            return 8.0 * self.dtype_bytes
        return 8.0 * (self.words_per_group * WORD_BYTES + self.dtype_bytes) / self.group

    @property
    def words_per_group(self) -> int:
        """Whole numbers only: ten of 3 bits fit into a word, eight of 4 bits."""
        return 0 if self.bits is None else self.group // (8 * WORD_BYTES // self.bits)

    @property
    def zero(self) -> int:
        """The code that stands for 0: a number is (code - zero) * scale."""
        assert self.bits is not None
        return (1 << (self.bits - 1)) - 1

    def transposes(self, kind: Kind) -> bool:
        """Never the embedding, whose rows are looked up."""
        return self.transposed and self.quantizes(kind) and kind != "embedding"

    def quantizes(self, kind: Kind) -> bool:
        if self.bits is None or kind in ("vector", "router"):
            return False
        return kind == "linear" or self.tables

    def groups(self, columns: int) -> int:
        """Of a row of `columns` numbers."""
        return -(-columns // self.group)


def _formats() -> dict[str, Quantization]:
    plain = (
        Quantization("q0f16", "float16"),
        Quantization("q0bf16", "bfloat16"),
        Quantization("q0f32", "float32"),
    )
    packed = (
        Quantization("q3f16_0", "float16", 3, 40, transposed=True),
        Quantization("q3f16_1", "float16", 3, 40),
        Quantization("q4f16_0", "float16", 4, transposed=True),
        Quantization("q4f16_1", "float16", 4),
        Quantization("q4f16_2", "float16", 4, tables=False),
        Quantization("q4bf16_0", "bfloat16", 4, transposed=True),
        Quantization("q4bf16_1", "bfloat16", 4),
        Quantization("q4f32_1", "float32", 4),
    )
    return {form.name: form for form in (*plain, *packed)}


QUANTIZATIONS: Mapping[str, Quantization] = MappingProxyType(_formats())


def quantization(name: str) -> Quantization:
    """Raises `UnknownName`."""
    if name not in QUANTIZATIONS:
        near = difflib.get_close_matches(name, QUANTIZATIONS, n=2)
        raise UnknownName("quantization", name, tuple(QUANTIZATIONS), near)
    return QUANTIZATIONS[name]
