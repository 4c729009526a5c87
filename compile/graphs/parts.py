"""What a model is built of: layers whose work is done by our own kernels, which a target brings.

Parameters have MLC's names, shapes and types. Between layers activations are float32, of shape [rows, width]
with all sequences' tokens as rows: float16 would save little time and can overflow. Only what the runtime
sees (embeddings, queries, keys and values) is of the format's own type, as MLC's contract has it.
"""
# mypy: disable-error-code="misc"
# (TVM carries no types, so neither do the classes that are derived from its own.)

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from edge_router.architectures.experts import ExpertSizes
from edge_router.architectures.key_values import stored_type
from edge_router.architectures.quantization import Kind, Quantization
from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.graphs.pages import PagedCache
from edge_router.compile.kernels.base import ExpertKernels, Kernels
from edge_router.compile.kernels.shapes import Gate, Grouped, Heads, Linear, Routing
from edge_router.compile.kernels.stored import Stored
from edge_router.compile.rotary import Rotary

ACTIVATION = "float32"


class Parts:
    """Makes layers of one target's `kernels`, in one format; those that are alike are made once.

    `stored` is the type of what the runtime sees, and of parameters that are not quantized; `kept` that in
    which keys and values lie in pages of ours.
    """

    def __init__(self, kernels: Kernels, form: Quantization, kept: str = "auto") -> None:
        self.kernels, self.form, self.stored = kernels, form, form.dtype
        self.kept = stored_type(kept, form.dtype)
        self._made: dict[tuple[relax.BlockBuilder, Hashable], Any] = {}

    def call(
        self, key: Hashable, name: str, make: Callable[[], Any], arguments: Sequence[Tensor], y: Tensor,
        number: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Apply the kernel that `make` builds; `y` says which shape and type it writes.

        A `number` follows the arguments, where the kernel takes one.
        The module gets a kernel once: to add it again would compare it with all that are there.
        """
        builder = relax.BlockBuilder.current()
        if (builder, key) not in self._made:
            self._made[builder, key] = builder.add_func(make(), name)
        kernel = self._made[builder, key]
        more = [] if number is None else [relax.prim_value(number)]
        called = relax.call_tir(kernel, [*(a._expr for a in arguments), *more], y._expr.ty)
        return Tensor(_expr=builder.emit(called))

    def linear(self, inputs: int, outputs: int, *, stored: bool = False, bias: bool = False) -> Projection:
        """`stored`: the result is what the KV cache takes."""
        return Projection(self, inputs, outputs, self.stored if stored else ACTIVATION, bias=bias)

    def gated(self, inputs: int, width: int, gate: Gate = "silu") -> Projection:
        """Gate and up in one: silu(x gate^T) * (x up^T)."""
        return Projection(self, inputs, 2 * width, ACTIVATION, gate=gate)

    def router(self, inputs: int, experts: int) -> Projection:
        """Ratings of experts."""
        return Projection(self, inputs, experts, ACTIVATION, kind="router")

    def route(self, ratings: Tensor, sizes: ExpertSizes) -> Tensor:
        """[rows, 2 * chosen] int32: each token's experts, and the bits of their shares."""
        routing, rows, kernels = _routing(sizes), _rows(ratings), self._of_experts()
        return self.call(
            ("route", routing, rows),
            "route",
            lambda: kernels.route(routing, rows),
            [ratings, ratings],
            Tensor.placeholder((ratings.shape[0], 2 * sizes.chosen), "int32"),
        )

    def grouped(self, sizes: ExpertSizes, inputs: int, outputs: int, *, gate: Gate | None = None) -> Matrices:
        """Of experts: gate and up in one, or what follows them."""
        return Matrices(self, sizes, inputs, outputs, gate)

    def _of_experts(self) -> ExpertKernels:
        assert isinstance(self.kernels, ExpertKernels), "see compile.targets.check_layers"
        return self.kernels

    def embedding(self, vocabulary: int, width: int) -> Embedding:
        return Embedding(self, vocabulary, width)

    def head(self, width: int, vocabulary: int) -> Projection:
        """To logits; of the last tokens only, so never many rows."""
        return Projection(self, width, vocabulary, "float32", kind="head")

    def norm(self, width: int, epsilon: float) -> Norm:
        return Norm(self, width, epsilon)

    def head_norms(self, config: DecoderConfig) -> Callable[[Tensor, Norm, Norm], Tensor]:
        """(queries, keys and values together, the queries' norm, the keys'): each head normalised."""
        heads, epsilon = heads_of(config, self.stored), config.rms_norm_eps

        def normalised(qkv: Tensor, query: Norm, key: Norm) -> Tensor:
            rows = _rows(qkv)
            return self.call(
                ("head_norm", heads, epsilon, rows),
                "head_norm",
                lambda: self.kernels.head_norm(heads, epsilon, rows),
                [qkv, query.weight, key.weight],
                Tensor.placeholder(qkv.shape, heads.dtype),
            )

        return normalised

    def together(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each [rows, its width] side by side, in the type that the KV cache takes."""
        return op.astype(op.concat([query, key, value], dim=1), self.stored)

    def turned(self, config: DecoderConfig, turns: Rotary | None) -> Callable[[Tensor, Any], Tensor]:
        """(queries, keys and values together, the KV cache): turned by positions; for caches that don't.

        Without `turns` they stay as they are.
        """
        if turns is None:
            return lambda qkv, cache: qkv
        heads, numbers = heads_of(config, self.stored), (tuple(turns.frequencies.tolist()), turns.amplitude)

        def turn(qkv: Tensor, cache: Any) -> Tensor:
            return self.call(
                ("turn", heads, *numbers),
                "turn_together",
                lambda: self.kernels.turn_together(heads, *numbers),
                [qkv, cache.get_query_positions(qkv.shape[0])],
                Tensor.placeholder(qkv.shape, heads.dtype),
            )

        return turn

    def attention(self, config: DecoderConfig, scale: float, *, windowed: bool = False) -> Attention:
        """Rotate, append to the KV cache, attend; `windowed`: no farther back than `layer_window`."""
        return Attention(heads_of(config, self.stored), -scale if windowed else scale)

    def capped(self, logits: Tensor, cap: float) -> Tensor:
        """cap * tanh(logits / cap)."""
        return op.tanh(logits * (1 / cap)) * cap


def _rows(x: Tensor) -> int | None:
    """The number of rows where it is known now."""
    return x.shape[0] if isinstance(x.shape[0], int) else None


class Projection(nn.Module):
    """y = x W^T, W in the format of its `kind`."""

    def __init__(
        self, parts: Parts, inputs: int, outputs: int, dtype: str, *, gate: Gate | None = None,
        bias: bool = False, kind: Kind = "linear",
    ) -> None:  # fmt: skip
        super().__init__()
        self._parts, self._dtype, self._gate = parts, dtype, gate
        self._inputs, self._outputs, self._many = inputs, outputs, kind == "linear"
        self._stored = Stored.of(parts.form, kind)
        for name, (shape, stored) in self._stored.arrays(outputs, inputs).items():
            setattr(self, name, nn.Parameter(shape, stored))
        if bias:
            self.bias = nn.Parameter((outputs,), parts.stored)

    @property
    def arrays(self) -> list[Tensor]:
        """What W is stored in."""
        return [getattr(self, name) for name in self._stored.arrays(self._outputs, self._inputs)]

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """`add` is added to the result."""
        shape = Linear(
            inputs=self._inputs,
            outputs=self._outputs,
            rows=_rows(x),
            x_dtype=x.dtype,
            y_dtype=self._dtype,
            add=add is not None,
            bias=hasattr(self, "bias"),
            gated=self._gate is not None,
            gate=self._gate or "silu",
            many=self._many,
            stored=self._stored,
        )
        width = self._outputs // 2 if self._gate else self._outputs
        more = [self.bias] if shape.bias else []
        if add is not None:
            more.append(add)
        return self._parts.call(
            shape,
            "linear",
            lambda: self._parts.kernels.linear(shape),
            [x, *self.arrays, *more],
            Tensor.placeholder((x.shape[0], width), self._dtype),
        )


class Embedding(Projection):
    """A table of rows to look up, which may be the output layer, too."""

    def __init__(self, parts: Parts, vocabulary: int, width: int) -> None:
        super().__init__(parts, width, vocabulary, "float32", kind="embedding")

    def rows(self, ids: Tensor) -> Tensor:
        parts = self._parts
        return parts.call(
            ("lookup", self._outputs, self._inputs),
            "lookup",
            lambda: parts.kernels.lookup(self._outputs, self._inputs, parts.stored, self._stored),
            [*self.arrays, ids],
            Tensor.placeholder((ids.shape[0], self._inputs), parts.stored),
        )


class Matrices(nn.Module):
    """The matrices of all experts, each of `outputs` rows."""

    def __init__(
        self, parts: Parts, sizes: ExpertSizes, inputs: int, outputs: int, gate: Gate | None
    ) -> None:
        super().__init__()
        self._parts, self._routing, self._gate = parts, _routing(sizes), gate
        self._inputs, self._outputs, self._stored = inputs, outputs, Stored.of(parts.form, "linear")
        for name, ((_, columns), dtype) in self._stored.arrays(outputs, inputs).items():
            setattr(self, name, nn.Parameter((sizes.count, outputs, columns), dtype))

    def forward(self, routes: Tensor, x: Tensor, add: Tensor | None = None) -> Tensor:
        rows = _rows(routes)
        shape = Grouped(
            self._routing, self._inputs, self._outputs, rows, self._gate, add is not None, self._stored
        )
        tokens, count = routes.shape[0], self._routing.experts * self._outputs
        result = (tokens, self._outputs)
        if self._gate is not None:
            result = (tokens * self._routing.chosen, self._outputs // 2)
        arrays = self._stored.arrays(count, self._inputs)
        weights = [op.reshape(getattr(self, name), size) for name, (size, _) in arrays.items()]
        return self._parts.call(
            shape,
            "experts",
            lambda: self._parts._of_experts().grouped(shape),
            [routes, x, *weights, *([] if add is None else [add])],
            Tensor.placeholder(result, ACTIVATION),
        )


class Norm(nn.Module):
    """Root-mean-square normalisation with a weight."""

    def __init__(self, parts: Parts, width: int, epsilon: float) -> None:
        super().__init__()
        self._parts, self._width, self._epsilon = parts, width, epsilon
        self.weight = nn.Parameter((width,), parts.stored)

    def forward(self, x: Tensor) -> Tensor:
        types = x.dtype, self._parts.stored, ACTIVATION
        rows = _rows(x)
        return self._parts.call(
            ("norm", self._width, self._epsilon, rows, types),
            "rms_norm",
            lambda: self._parts.kernels.rms_norm(self._width, self._epsilon, rows, *types),
            [x, self.weight],
            Tensor.placeholder((x.shape[0], self._width), ACTIVATION),
        )


def _routing(sizes: ExpertSizes) -> Routing:
    return Routing(sizes.count, sizes.chosen, sizes.shared_out)


def heads_of(config: DecoderConfig, stored: str) -> Heads:
    return Heads(
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        stored,
        config.score_cap,
        config.layer_window,
    )


class Attention:
    """qkv [rows, all heads * channels] to [rows, query channels]."""

    def __init__(self, heads: Heads, scale: float) -> None:
        self._heads, self._scale = heads, scale

    def __call__(self, qkv: Tensor, cache: Any, layer: int) -> Tensor:
        heads, rows = self._heads, qkv.shape[0]
        if isinstance(cache, PagedCache):
            attended = cache.attend(qkv, heads, self._scale, layer)
            return op.reshape(attended, (rows, heads.query * heads.size))
        qkv = op.reshape(qkv, (rows, heads.query + 2 * heads.key_value, heads.size))
        call = relax.call_dps_packed(
            "vm.builtin.attention_kv_cache_attention_with_fused_qkv",
            [cache._expr, relax.prim_value(layer), relax.prim_value(self._scale), qkv._expr],
            out_ty=relax.TensorType((rows, heads.query, heads.size), heads.dtype),
        )
        attended = Tensor(_expr=relax.BlockBuilder.current().emit(call))
        return op.reshape(attended, (rows, heads.query * heads.size))
