"""A lowered relax function as a program's: its bindings become launches, its tensors become buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import relax
from tvm.ir import GlobalVar

from edge_router.compile.webgpu.kernels import HostCall
from edge_router.compile.webgpu.reuse import Use, plan
from edge_router.compile.webgpu.symbols import expression, substitute
from edge_router.compile.webgpu.wgsl import Shader
from edge_router.records import dataclass
from edge_router.webgpu_program import Expression, Launch, ProgramFunction

_ITEM_BYTES = {"float32": 4, "uint32": 4, "int32": 4}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a relax tensor lies, and its shape: texts over n."""

    buffer: str
    shape: tuple[str, ...]


class Exporter:
    """Walks one function. `parameters` are the buffers of its arguments, `calls` what TVM's functions do.

    Raises `NotImplementedError` for what has no place in a program.
    """

    def __init__(
        self,
        function: Any,
        parameters: Sequence[str],
        shaders: Mapping[str, Shader],
        calls: Mapping[str, Sequence[HostCall]],
    ) -> None:
        self._function, self._shaders, self._calls = function, shaders, calls
        self._tensors: dict[int, Tensor] = {}
        self._sizes: dict[str, str] = {}  # bytes of the tensors that the function makes
        self._launches: list[Launch] = []
        for argument, name in zip(function.params, parameters, strict=True):
            self._tensors[_identity(argument)] = Tensor(name, _shape(argument.ty.shape.values))

    def export(self) -> ProgramFunction:
        for block in self._function.body.blocks:
            for binding in block.bindings:
                made = self._visit(binding.var, binding.value)
                if made is not None:
                    self._tensors[_identity(binding.var)] = made
        return self._planned(self._tensor(self._function.body.body))

    def _visit(self, variable: Any, value: Any) -> Tensor | None:
        """What `variable` is bound to, where that is a tensor."""
        if isinstance(value, relax.Var):
            return self._tensors.get(_identity(value))
        if not isinstance(value, relax.Call):
            raise NotImplementedError(f"{type(value).__name__} in a lowered function")
        if isinstance(value.op, relax.ExternFunc):
            return self._launch_own(str(value.op.global_symbol), value.args)
        if isinstance(value.op, GlobalVar):
            self._launch_tvm(value.op.name_hint, value.args)
            return None
        match value.op.name:
            case "relax.builtin.alloc_tensor":
                return self._allocate(_shape(value.args[0].values), str(variable.ty.dtype))
            case "relax.reshape":
                return Tensor(self._tensor(value.args[0]).buffer, _shape(variable.ty.shape.values))
        raise NotImplementedError(f"{value.op.name} in a lowered function")

    def _allocate(self, shape: tuple[str, ...], dtype: str) -> Tensor:
        name = f"%{len(self._sizes)}"
        self._sizes[name] = " * ".join([*(f"({part})" for part in shape), str(_ITEM_BYTES[dtype])])
        return Tensor(name, shape)

    def _launch_own(self, name: str, arguments: Sequence[Any]) -> Tensor:
        """What it writes is its last argument."""
        shader = self._shaders[name]
        buffers = tuple(self._tensor(argument).buffer for argument in arguments)
        grid = (Expression(shader.grid), Expression(1), Expression(1))
        scalars = tuple(Expression(scalar) for scalar in shader.scalars)
        self._launches.append(Launch(name, buffers, grid, scalars))
        return self._tensor(arguments[-1])

    def _launch_tvm(self, function: str, arguments: Sequence[Any]) -> None:
        tensors = [self._tensor(argument) for argument in arguments]
        for call in self._calls[function]:
            values = call.bind([tensor.shape for tensor in tensors])
            # A kernel of TVM's ends where `block > last`, and is given the last block.
            texts = [*call.grid, *call.scalars, f"({call.grid[0]}) - 1"]
            x, y, z, *scalars = (Expression(substitute(text, values)) for text in texts)
            buffers = tuple(tensors[number].buffer for number in call.buffers)
            self._launches.append(Launch(call.kernel, buffers, (x, y, z), tuple(scalars)))

    def _planned(self, output: Tensor) -> ProgramFunction:
        """Tensors that are not needed at the same time share a buffer; the last is the program's logits."""
        del self._sizes[output.buffer]
        uses: dict[str, Use] = {}
        for step, launch in enumerate(self._launches):
            for name in set(launch.buffers) & self._sizes.keys():
                first = uses[name].first if name in uses else step
                uses[name] = Use(first, step, self._sizes[name])
        homes, sizes = plan(uses)
        homes[output.buffer] = "logits"
        launches = tuple(
            Launch(
                launch.shader,
                tuple(homes.get(name, name) for name in launch.buffers),
                launch.grid,
                launch.scalars,
            )
            for launch in self._launches
        )
        return ProgramFunction(launches, sizes, Expression(output.shape[0]))

    def _tensor(self, value: Any) -> Tensor:
        return self._tensors[_identity(value)]


def _shape(dimensions: Sequence[Any]) -> tuple[str, ...]:
    return tuple(expression(dimension) for dimension in dimensions)


def _identity(value: Any) -> int:
    """TVM's variables compare by structure, their hashes by identity."""
    return int(value.__hash__())
