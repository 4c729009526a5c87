"""What a model is built of on a GPU: the same layers as on a processor, made of our shaders.

Activations are float32, of shape [rows, width]. What an architecture does beside these parts TVM compiles,
whatever it is. One thing is put off until it is known what it is for: the normalisation of a single row
becomes part of the product that reads it.
"""

# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.core import wrap_nested

from edge_router.architectures.experts import ExpertSizes
from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.rotary import Rotary
from edge_router.compile.webgpu import tunables
from edge_router.compile.webgpu.mixture import Matrices, Router, Routes, route
from edge_router.compile.webgpu.shaders.append import append
from edge_router.compile.webgpu.shaders.attend_many import attend_many
from edge_router.compile.webgpu.shaders.attend_one import attend_one, combine
from edge_router.compile.webgpu.shaders.heads import Heads
from edge_router.compile.webgpu.shaders.matfew import ROWS as FEW
from edge_router.compile.webgpu.shaders.matfew import matfew
from edge_router.compile.webgpu.shaders.matmul import MatMul, matmul
from edge_router.compile.webgpu.shaders.matvec import Gate, MatVec, matvec
from edge_router.compile.webgpu.tables import Matrix, Part, Shaders
from edge_router.compile.webgpu.wgsl import Shader
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Way:
    """How rows go through the model: `tile` rows at once through a matrix; each its own sequence or not.

    A tile of 4 is that of `matfew`.

    `far`: with a long past, which workgroups share out. `half`: what is multiplied is float16 where that has
    the range: for normalised inputs, and for those that come from the KV cache, which is float16 itself.
    """

    tile: int
    one_each: bool
    far: bool = False
    half: bool = False


@dataclass(frozen=True, slots=True)
class Cache:
    """What attention needs beside the rows themselves; a rotary table for each kind of layer."""

    control: Tensor
    rotary: Sequence[Tensor]
    way: Way


class GpuParts:
    """Makes layers, in place of `architectures.parts.Parts`. `way` is that of the function being exported.

    `eight`: bits of keys and values.
    """

    def __init__(self, *, eight: bool = False) -> None:
        self.shaders, self._eight = Shaders(), eight
        self.tables: list[Rotary] = []  # of models whose layers turn differently
        self.way = Way(tile=tunables.TILE, one_each=False)
        self._heads: list[Heads] = []  # of each layer
        self.exact = False  # no float16: a little off, tokens go to other experts

    def linear(self, inputs: int, outputs: int, *, stored: bool = False, bias: bool = False) -> Projection:
        return Projection(self, inputs, outputs, bias=bias)

    def gated(self, inputs: int, width: int, gate: Gate = "silu") -> Projection:
        """Gate and up in one: gate(x gate^T) * (x up^T)."""
        return Projection(self, inputs, 2 * width, gate=gate)

    def router(self, inputs: int, experts: int) -> Router:
        self.exact = True
        return Router(self.shaders, inputs, experts)

    def route(self, ratings: Tensor, sizes: ExpertSizes) -> Routes:
        return route(self.shaders, ratings, sizes)

    def grouped(self, sizes: ExpertSizes, inputs: int, outputs: int, *, gate: Gate | None = None) -> Matrices:
        return Matrices(self.shaders, sizes, inputs, outputs, gate)

    def embedding(self, vocabulary: int, width: int) -> Projection:
        return Projection(self, width, vocabulary)

    def head(self, width: int, vocabulary: int) -> Projection:
        return Projection(self, width, vocabulary)

    def norm(self, width: int, epsilon: float) -> Norm:
        return Norm(width, epsilon)

    def head_norms(self, config: DecoderConfig) -> Callable[[Tensor, Norm, Norm], Tensor]:
        """(queries, keys and values together, the queries' norm, the keys'): left to attention."""
        return lambda qkv, query, key: Prepared(qkv, norms=(query, key))

    def together(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each [rows, its width] side by side."""
        return op.concat([query, key, value], dim=1)

    def turned(self, config: DecoderConfig, turns: Rotary | None) -> Callable[[Tensor, Cache], Tensor]:
        """Queries and keys turned by other angles than those of other layers: left to attention.

        Without `turns`: by none.
        """
        turns = turns or Rotary(np.zeros(len(config.rotary("rope_scaling").frequencies), np.float32))
        same = [np.array_equal(table.frequencies, turns.frequencies) for table in self.tables]
        if True not in same:
            self.tables.append(turns)
        number = same.index(True) if True in same else len(same)
        return lambda qkv, cache: Prepared(qkv, norms=getattr(qkv, "norms", None), table=number)

    def attention(self, config: DecoderConfig, scale: float, *, windowed: bool = False) -> Attention:
        """`windowed`: no farther back than the configuration's `layer_window`, of which sinks are a part."""
        made = Attention(self.shaders, config, scale, windowed, eight=self._eight)
        self._heads.append(made.heads)
        return made

    def seen(self) -> tuple[int, int]:
        """The window that no layer looks beyond, sinks included, and the sinks; 0: one sees everything."""
        if not all(heads.window for heads in self._heads):
            return 0, 0
        sinks = max((heads.sinks for heads in self._heads), default=0)
        return max((heads.window for heads in self._heads), default=0) + sinks, sinks

    def capped(self, logits: Tensor, cap: float) -> Tensor:
        """cap * tanh(logits / cap); tanh of large numbers is not a number on some drivers."""
        small = wrap_nested(relax.op.clip((logits * (1 / cap))._expr, -10.0, 10.0), "clip")
        return op.tanh(small) * cap


class Projection(Matrix):
    """y = x W^T, quantized; with a `gate` that of its upper half, times the lower."""

    def __init__(
        self, parts: GpuParts, inputs: int, outputs: int, *, gate: Gate | None = None, bias: bool = False
    ) -> None:
        super().__init__(parts.shaders, inputs, outputs, whole=gate is not None)
        self._parts, self._gate, self._biased = parts, gate, bias
        if bias:
            self.bias = nn.Parameter((outputs,), "float32")

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """`add` is added to the result."""
        width = self.outputs // 2 if self._gate else self.outputs
        many = self._parts.way.tile > FEW and not _is_one(x)
        after = [*([self.bias] if self._biased else []), *([] if add is None else [add])]

        def launch(part: Part) -> tuple[Shader, list[Tensor]]:
            weights = [part.q_weight, part.q_scale, *after]
            if many:
                bounded = isinstance(x, Normalised | Attended)
                return self._many(part, add, half=bounded and self._parts.way.half), [x, *weights]
            norm = x.norm if isinstance(x, Normalised) else None
            source = [x] if norm is None else [x.raw, norm.weight]
            shape, stride = self._shape(part, norm, add), self._stride(part)
            return matvec(shape) if _is_one(x) else matfew(shape, stride), [*source, *weights]

        return self.each(launch, (x.shape[0], width))

    def _stride(self, part: Part) -> int:
        return 0 if part.rows == self.outputs else self.outputs

    def _shape(self, part: Part, norm: Norm | None, add: Tensor | None) -> MatVec:
        return MatVec(
            self.inputs,
            part.rows // 2 if self._gate else part.rows,
            norm=None if norm is None else norm.epsilon,
            gate=self._gate,
            bias=self._biased,
            residual=add is not None,
            first=part.first,
        )

    def _many(self, part: Part, add: Tensor | None, *, half: bool) -> Shader:
        return matmul(
            MatMul(
                self.inputs,
                part.rows // 2 if self._gate else part.rows,
                rows=self._parts.way.tile,
                gate=self._gate,
                bias=self._biased,
                residual=add is not None,
                first=part.first,
                stride=self._stride(part),
                half=half,
            )
        )


def _is_one(x: Tensor) -> bool:
    return isinstance(x.shape[0], int) and x.shape[0] == 1


class Norm(nn.Module):
    """Root-mean-square normalisation with a weight, which is float32 here."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter((width,), "float32")

    def forward(self, x: Tensor) -> Tensor:
        return Normalised(x, self)

    def of(self, x: Tensor) -> Tensor:
        """At once."""
        return op.rms_norm(x, self.weight, axes=-1, epsilon=self.epsilon)


class Normalised(Tensor):
    """A tensor that is computed when anything but a product with one row asks for it."""

    def __init__(self, raw: Tensor, norm: Norm) -> None:
        self.raw, self.norm = raw, norm
        self._computed: Tensor | None = None

    @property
    def _expr(self) -> Any:
        if self._computed is None:
            self._computed = self.norm.of(self.raw)
        return self._computed._expr

    @property
    def shape(self) -> list[Any]:
        shape: list[Any] = self.raw.shape
        return shape


class Prepared(Tensor):
    """Queries, keys and values, and what attention does to the first two of them; for nothing else.

    `norms` are the queries' and the keys', `table` is the number of the angles by which they are turned.
    """

    def __init__(self, raw: Tensor, *, norms: tuple[Norm, Norm] | None = None, table: int = 0) -> None:
        super().__init__(_expr=raw._expr)
        self.norms, self.table = norms, table


class Attended(Tensor):
    """Means of values from the KV cache, none larger than the largest there."""

    def __init__(self, raw: Tensor) -> None:
        super().__init__(_expr=raw._expr)


class Attention(nn.Module):
    """Rotate, append to the KV cache, attend. Keys and values are parameters, in pages, written in place."""

    def __init__(
        self, shaders: Shaders, config: DecoderConfig, scale: float, windowed: bool, *, eight: bool
    ) -> None:
        super().__init__()
        self._shaders = shaders
        sinks = max(0, config.attention_sink_size) if windowed and config.slides else 0
        turned = 2 * len(config.rotary("rope_scaling").frequencies)
        self.heads = Heads(
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            scale,
            window=config.layer_window - sinks if windowed else 0,
            sinks=sinks,
            cap=config.score_cap or None,
            turned=0 if turned == config.head_dim else turned,
            eight=eight,
        )
        words = self.heads.page_bytes // 4
        self.keys, self.values = (nn.Parameter((1, words), "uint32") for _ in range(2))

    def forward(self, qkv: Tensor, cache: Cache, layer: int) -> Tensor:
        known = qkv if isinstance(qkv, Prepared) else Prepared(qkv)
        heads, norms = self.heads, known.norms or ()
        if norms:
            heads = replace(heads, norm=norms[0].epsilon)
        shape = (qkv.shape[0], heads.query * heads.size)
        stored, table = [self.keys, self.values], cache.rotary[known.table]
        given = [cache.control, qkv, table, *stored, *(norm.weight for norm in norms)]
        if cache.way.far:
            many = heads.query > tunables.MANY_HEADS
            splits = tunables.SHARES_OF_MANY if many else tunables.SHARES_OF_FEW
            parts = (qkv.shape[0] * heads.query * splits, heads.size + 2)
            found = self._shaders.call(attend_one(heads, splits), given, parts)
            return self._shaders.call(combine(heads, splits), [found], shape)
        if cache.way.one_each:
            return self._shaders.call(attend_one(heads), given, shape)
        rows, width = shape
        queries = self._shaders.call(append(heads), given, (rows * 2 if heads.sinks else rows, width))
        return Attended(self._shaders.call(attend_many(heads), [cache.control, queries, *stored], shape))
