"""Quantized matrices on a GPU: in as many pieces as one binding needs, each multiplied by our own shaders."""

# mypy: disable-error-code="misc"
# (TVM carries no types, so neither do the classes that are derived from its own.)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.core import wrap_nested

from edge_router.compile.webgpu.shaders.rows import Table, take
from edge_router.compile.webgpu.wgsl import Shader

BINDING_BYTES = 128 << 20  # of one buffer that every device can show to a shader


class Shaders:
    """Ours that a module uses, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Shader] = {}

    def call(self, shader: Shader, arguments: Sequence[Tensor], shape: Sequence[Any]) -> Tensor:
        """Its output, a new float32 tensor behind `arguments`."""
        return op.extern(self._keep(shader), list(arguments), Tensor.placeholder(list(shape), "float32"))

    def call_into(self, shader: Shader, arguments: Sequence[Tensor], output: Tensor) -> Tensor:
        """The same, into a tensor that another launch has begun to fill."""
        given = [argument._expr for argument in (*arguments, output)]
        name, into = self._keep(shader), len(arguments)
        call = relax.op.call_inplace_packed(name, *given, inplace_indices=into, ty_args=output._expr.ty)
        return wrap_nested(call, name)

    def _keep(self, shader: Shader) -> str:
        known = self.by_name.setdefault(shader.name, shader)
        assert known == shader, f"two shaders are called {shader.name}"
        return shader.name


class Part(nn.Module):
    """Rows `first` to `last` of a matrix in q4f16_1."""

    def __init__(self, columns: int, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.q_weight = nn.Parameter((last - first, columns // 8), "uint32")
        self.q_scale = nn.Parameter((last - first, columns // 32), "float16")

    @property
    def rows(self) -> int:
        return self.last - self.first


class Matrix(nn.Module):
    """A row for each output. `whole`: its rows belong together, so it is never taken apart."""

    def __init__(self, shaders: Shaders, inputs: int, outputs: int, *, whole: bool = False) -> None:
        super().__init__()
        self._shaders, self.inputs, self.outputs = shaders, inputs, outputs
        spans = [(0, outputs)] if whole else row_spans(outputs, inputs // 2)
        self.parts = nn.ModuleList([Part(inputs, first, last) for first, last in spans])

    def each(self, launch: Callable[[Part], tuple[Shader, list[Tensor]]], shape: Sequence[Any]) -> Tensor:
        """One output, to which every part adds its rows; `launch` gives a shader and what it reads."""
        output: Tensor | None = None
        for part in self.parts:
            shader, arguments = launch(part)
            if output is None:
                output = self._shaders.call(shader, arguments, shape)
            else:
                output = self._shaders.call_into(shader, arguments, output)
        return output

    def rows(self, control: Tensor) -> Tensor:
        """The one of each token."""

        def launch(part: Part) -> tuple[Shader, list[Tensor]]:
            return take(Table(self.inputs, part.rows, part.first)), [control, part.q_weight, part.q_scale]

        return self.each(launch, (control.shape[0], self.inputs))


def row_spans(rows: int, row_bytes: int, most: int = BINDING_BYTES) -> list[tuple[int, int]]:
    """(first, one behind the last) of pieces of at most `most` bytes."""
    step = max(1, most // row_bytes)
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]
