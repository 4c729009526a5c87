"""A decoder as a relax module whose heavy steps are our own shaders and whose other steps are TVM's.

Parameters have MLC's names, but for ".parts.N", which a table has when it is bound in several pieces. What
the executor provides is a parameter, too: control, rotary, keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.core import wrap_nested

from edge_router.compile.webgpu.numbers import BINDING_BYTES, Decoder, row_parts
from edge_router.compile.webgpu.shaders.append import append
from edge_router.compile.webgpu.shaders.attend_many import attend_many
from edge_router.compile.webgpu.shaders.attend_one import attend_one
from edge_router.compile.webgpu.shaders.matmul import MatMul, matmul
from edge_router.compile.webgpu.shaders.matvec import Gate, MatVec, matvec
from edge_router.compile.webgpu.shaders.rows import Table, take
from edge_router.compile.webgpu.wgsl import Shader
from edge_router.program import Buffer, Control, KeyValues, Rotary, Weight

FEW = 16  # rows of a tile where sequences decode together
MANY = 64
_FLOAT, _WORD = "float32", "uint32"


class Shaders:
    """Our shaders that the module uses, and what its parameters are."""

    def __init__(self) -> None:
        self.by_name: dict[str, Shader] = {}
        self.buffers: dict[str, Buffer] = {}

    def call(self, shader: Shader, arguments: Sequence[Tensor | None], shape: Sequence[Any]) -> Tensor:
        """Its output, a new tensor behind `arguments`."""
        given = [argument for argument in arguments if argument is not None]
        return op.extern(self._keep(shader), given, Tensor.placeholder(list(shape), _FLOAT))

    def call_into(self, shader: Shader, arguments: Sequence[Tensor | None], output: Tensor) -> Tensor:
        """The same, into a tensor that another part has begun to fill."""
        given = [argument._expr for argument in (*arguments, output) if argument is not None]
        name = self._keep(shader)
        into = len(given) - 1
        call = relax.op.call_inplace_packed(name, *given, inplace_indices=into, ty_args=output._expr.ty)
        return wrap_nested(call, name)

    def _keep(self, shader: Shader) -> str:
        known = self.by_name.setdefault(shader.name, shader)
        assert known == shader, f"two shaders are called {shader.name}"
        return shader.name


def rows_of(tensor: Tensor) -> Any:
    """The number of rows, where it is known now; else a symbol."""
    return tensor.shape[0]


def is_one(tensor: Tensor) -> bool:
    rows = rows_of(tensor)
    return isinstance(rows, int) and rows == 1


class Part(nn.Module):  # type: ignore[misc]
    """Rows `first` to `last` of a quantized matrix."""

    def __init__(self, columns: int, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.q_weight = nn.Parameter((last - first, columns // 8), _WORD)
        self.q_scale = nn.Parameter((last - first, columns // 32), "float16")


class Matrix(nn.Module):  # type: ignore[misc]
    """A quantized matrix of `rows` outputs, and the shaders that multiply by it or look rows up."""

    def __init__(self, shaders: Shaders, columns: int, rows: int, most: int = BINDING_BYTES) -> None:
        self.shaders, self.columns, self.rows = shaders, columns, rows
        parts = row_parts(rows, columns // 2, most)
        self.parts = nn.ModuleList([Part(columns, first, last) for first, last in parts])

    def one(
        self,
        x: Tensor,
        *,
        norm: Norm | None = None,
        residual: Tensor | None = None,
        gate: Gate | None = None,
        last_row: bool = False,
    ) -> Tensor:
        """The product with one row, normalised before; `last_row` of several."""
        rows = self.rows // 2 if gate else self.rows
        output: Tensor | None = None
        for part in self.parts:
            shape = MatVec(
                self.columns,
                rows if gate else part.last - part.first,
                norm=norm.epsilon if norm else None,
                gate=gate,
                residual=residual is not None,
                first=part.first,
                last_row=last_row,
            )
            before = [x, norm.weight if norm else None, part.q_weight, part.q_scale, residual]
            output = self._call(matvec(shape), before, (1, rows), output)
        return output

    def many(
        self, x: Tensor, *, tile: int, residual: Tensor | None = None, gate: Gate | None = None
    ) -> Tensor:
        """The product with n rows."""
        rows = self.rows // 2 if gate else self.rows
        output: Tensor | None = None
        for part in self.parts:
            shape = MatMul(
                self.columns,
                rows if gate else part.last - part.first,
                rows=tile,
                gate=gate,
                residual=residual is not None,
                first=part.first,
                stride=rows if len(self.parts) > 1 else 0,
            )
            before = [x, part.q_weight, part.q_scale, residual]
            output = self._call(matmul(shape), before, (rows_of(x), rows), output)
        return output

    def take(self, control: Tensor) -> Tensor:
        """The row of each token."""
        output: Tensor | None = None
        for part in self.parts:
            table = Table(self.columns, part.last - part.first, part.first)
            before = [control, part.q_weight, part.q_scale]
            output = self._call(take(table), before, (rows_of(control), self.columns), output)
        return output

    def _call(
        self, shader: Shader, before: Sequence[Tensor | None], shape: Sequence[Any], output: Tensor | None
    ) -> Tensor:
        if output is None:
            return self.shaders.call(shader, before, shape)
        return self.shaders.call_into(shader, before, output)


class Norm(nn.Module):  # type: ignore[misc]
    """RMS normalisation; TVM writes the kernel for many rows, for one it is part of the next product."""

    def __init__(self, size: int, epsilon: float) -> None:
        self.epsilon = epsilon
        self.weight = nn.Parameter((size,), _FLOAT)

    def forward(self, x: Tensor) -> Tensor:
        return op.rms_norm(x, self.weight, axes=-1, epsilon=self.epsilon)


class Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, shaders: Shaders, decoder: Decoder) -> None:
        size, heads = decoder.sizes, decoder.heads
        self.shaders, self.heads = shaders, heads
        self.qkv_proj = Matrix(shaders, size.hidden, (heads.query + 2 * heads.key) * heads.size)
        self.o_proj = Matrix(shaders, heads.query * heads.size, size.hidden)
        self.keys, self.values = nn.Parameter((1,), _WORD), nn.Parameter((1,), _WORD)

    def one_each(self, qkv: Tensor, control: Tensor, rotary: Tensor) -> Tensor:
        """Each row is the next token of a sequence of its own."""
        width = self.heads.query * self.heads.size
        before = [control, qkv, rotary, self.keys, self.values]
        return self.shaders.call(attend_one(self.heads), before, (rows_of(qkv), width))

    def chunk(self, qkv: Tensor, control: Tensor, rotary: Tensor) -> Tensor:
        """All rows are the next tokens of one sequence."""
        shape = (rows_of(qkv), self.heads.query * self.heads.size)
        cached = [self.keys, self.values]
        queries = self.shaders.call(append(self.heads), [control, qkv, rotary, *cached], shape)
        return self.shaders.call(attend_many(self.heads), [control, queries, *cached], shape)


class Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, shaders: Shaders, decoder: Decoder) -> None:
        size = decoder.sizes
        self.gate_up_proj = Matrix(shaders, size.hidden, 2 * size.intermediate, most=1 << 40)
        self.down_proj = Matrix(shaders, size.intermediate, size.hidden)


class Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, shaders: Shaders, decoder: Decoder) -> None:
        self.self_attn, self.mlp = Attention(shaders, decoder), Mlp(shaders, decoder)
        self.input_layernorm = Norm(decoder.sizes.hidden, decoder.epsilon)
        self.post_attention_layernorm = Norm(decoder.sizes.hidden, decoder.epsilon)

    def one(self, x: Tensor, control: Tensor, rotary: Tensor) -> Tensor:
        qkv = self.self_attn.qkv_proj.one(x, norm=self.input_layernorm)
        mixed = self.self_attn.one_each(qkv, control, rotary)
        x = self.self_attn.o_proj.one(mixed, residual=x)
        inner = self.mlp.gate_up_proj.one(x, norm=self.post_attention_layernorm, gate="silu")
        return self.mlp.down_proj.one(inner, residual=x)

    def many(self, x: Tensor, control: Tensor, rotary: Tensor, *, tile: int, one_each: bool) -> Tensor:
        qkv = self.self_attn.qkv_proj.many(self.input_layernorm(x), tile=tile)
        attend = self.self_attn.one_each if one_each else self.self_attn.chunk
        x = self.self_attn.o_proj.many(attend(qkv, control, rotary), tile=tile, residual=x)
        inner = self.mlp.gate_up_proj.many(self.post_attention_layernorm(x), tile=tile, gate="silu")
        return self.mlp.down_proj.many(inner, tile=tile, residual=x)


class Model(nn.Module):  # type: ignore[misc]
    def __init__(self, shaders: Shaders, decoder: Decoder) -> None:
        size = decoder.sizes
        self.embed_tokens = Matrix(shaders, size.hidden, size.vocabulary)
        self.layers = nn.ModuleList([Layer(shaders, decoder) for _ in range(size.layers)])
        self.norm = Norm(size.hidden, decoder.epsilon)


class Causal(nn.Module):  # type: ignore[misc]
    """The whole model: the three functions of a program."""

    def __init__(self, shaders: Shaders, decoder: Decoder) -> None:
        size = decoder.sizes
        self.model = Model(shaders, decoder)
        if not size.tied:
            self.lm_head = Matrix(shaders, size.hidden, size.vocabulary)
        self.rotary = nn.Parameter((1, size.head_dim), _FLOAT)
        self._tied = size.tied

    @property
    def head(self) -> Matrix:
        """Not an attribute: a tied table would become a second parameter, which nobody fills."""
        return self.model.embed_tokens if self._tied else self.lm_head

    def decode(self, control: Tensor) -> Tensor:
        x = self.model.embed_tokens.take(control)
        for layer in self.model.layers:
            x = layer.one(x, control, self.rotary)
        return self.head.one(x, norm=self.model.norm)

    def prefill(self, control: Tensor) -> Tensor:
        return self.head.one(self._many(control, MANY, one_each=False), norm=self.model.norm, last_row=True)

    def batch(self, control: Tensor) -> Tensor:
        x = self._many(control, FEW, one_each=True)
        return self.head.many(self.model.norm(x), tile=FEW)

    def _many(self, control: Tensor, tile: int, *, one_each: bool) -> Tensor:
        x = self.model.embed_tokens.take(control)
        for layer in self.model.layers:
            x = layer.many(x, control, self.rotary, tile=tile, one_each=one_each)
        return x


def buffers_of(parameters: Sequence[tuple[str, Any]], decoder: Decoder) -> dict[str, Buffer]:
    """What each of the module's parameters is to the executor; `control` is an input and comes first."""
    found: dict[str, Buffer] = {"control": Control()}
    behind: dict[str, int] = {}  # rows of a tensor that the parts up to here have
    for name, parameter in parameters:
        rows, *columns = (int(size) for size in parameter.shape)
        module, _, last = name.rpartition(".")
        if name == "rotary":
            found[name] = Rotary(decoder.frequencies)
        elif last in ("keys", "values"):
            found[name] = KeyValues(decoder.heads.page_bytes)
        elif ".parts." in module:
            tensor = f"{module.split('.parts.')[0]}.{last}"
            first = behind.get(tensor, 0)
            behind[tensor] = first + rows
            size = rows * columns[0] * _STORED_BYTES[parameter.dtype]
            found[name] = Weight(tensor, size, rows=(first, first + rows))
        else:
            found[name] = Weight(name, rows * _STORED_BYTES[parameter.dtype], "float32")
    return found


_STORED_BYTES = {"uint32": 4, "float16": 2, "float32": 4}
