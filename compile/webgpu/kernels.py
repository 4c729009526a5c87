"""TVM's own kernels: the functions that are left in a lowered module, as WGSL and how they are launched.

TVM builds them for its runtime: a host function for each, which computes the grid and calls the kernel. We
take the host functions as they are after the pass that splits them off, and read the call out of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tvm

from edge_router.compile.webgpu.symbols import expression
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.webgpu_program import Shader

_SPLIT = "tirx.SplitHostDevice"
_HEADER = re.compile(r"// Function: (\w+)\n//-+\n// Function: \1\n//-+\n")
_UNUSABLE = ("bool", "int8", "uint8", "bfloat16")  # TVM writes invalid WGSL for them and says nothing


@dataclass(frozen=True, slots=True)
class HostCall:
    """One launch of `kernel` by a host function.

    `buffers` are numbers of the host function's arguments. `grid` and `scalars` are texts over the names in
    `shapes`, the shapes of those arguments.
    """

    kernel: str
    buffers: tuple[int, ...]
    scalars: tuple[str, ...]
    grid: tuple[str, str, str]
    shapes: tuple[tuple[str, ...], ...]

    def bind(self, shapes: Sequence[tuple[str, ...]]) -> dict[str, str]:
        """What each name stands for when the arguments have these shapes."""
        pairs = [
            pair
            for own, given in zip(self.shapes, shapes, strict=True)
            for pair in zip(own, given, strict=True)
        ]
        return {name: value for name, value in pairs if name.isidentifier()}


def build(functions: Mapping[str, Any], target: Any) -> tuple[dict[str, Shader], dict[str, list[HostCall]]]:
    """Shaders by name, and the calls of each function (a scheduled PrimFunc)."""
    if not functions:
        return {}, {}
    module = tvm.IRModule({name: f.with_attr("global_symbol", name) for name, f in functions.items()})
    splits = _Splits()
    with tvm.transform.PassContext(instruments=[splits]):
        library = tvm.tirx.build(module, target=target, pipeline="s_tir")
    calls = {name: _calls(splits.functions[name]) for name in functions}
    return _shaders(library.imports[0]), calls


@tvm.instrument.pass_instrument
class _Splits:
    """Keeps the module as it is right after the split."""

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}

    def run_after_pass(self, module: Any, info: Any) -> None:
        if info.name == _SPLIT:
            self.functions = {variable.name_hint: f for variable, f in module.functions_items()}


def _shaders(device: Any) -> dict[str, Shader]:
    _, *parts = _HEADER.split(device.inspect_source())
    sources = dict(zip(parts[::2], parts[1::2], strict=True))
    found = {}
    for name, info in strict_json.parse_object(device.inspect_source("func_info")).items():
        types = info["arg_types"]
        tags = {tag.split(":")[0]: tag.split(":")[1] for tag in info["launch_param_tags"] if ":" in tag}
        unusable = [kind for kind in _UNUSABLE if re.search(rf"array<\s*{kind}\b", sources[name])]
        if unusable:
            raise NotImplementedError(f"TVM's {name} has a buffer of {unusable[0]}")
        writes = tuple(bool(flag) for flag in strict_json.parse(tags["paramWriteAccess"]))
        numbers = sum(kind != "handle" for kind in types)
        found[name] = Shader(sources[name].strip() + "\n", name, writes, numbers + 1)
    return found


def _calls(function: Any) -> list[HostCall]:
    """The launches in a host function, in order."""
    reader = _HostReader(function)
    reader.visit(function.body)
    return reader.calls


class _HostReader:
    def __init__(self, function: Any) -> None:
        self.calls: list[HostCall] = []
        self._arguments = {_identity(argument): number for number, argument in enumerate(function.params)}
        self._texts: dict[str, str] = {}
        self._shapes = tuple(
            tuple(expression(dimension) for dimension in argument.ty.shape) for argument in function.params
        )

    def visit(self, statement: Any) -> None:
        match type(statement).__name__:
            case "SeqStmt":
                for inner in statement.seq:
                    self.visit(inner)
            case "Bind":
                self._texts[statement.var.name] = expression(statement.value, self._texts)
            case "DeclBuffer":
                self._arguments[_identity(statement.buffer)] = self._number(statement.data)
            case "AttrStmt":
                self.visit(statement.body)
            case "Evaluate":
                self._call(statement.value)
            case other:
                raise NotImplementedError(f"{other} in a host function")

    def _call(self, call: Any) -> None:
        if call.op.name != "tirx.call_ffi_kernel":
            raise NotImplementedError(f"{call.op.name} in a host function")
        tags = [str(tag) for tag in call.attrs["launch_params"]]
        name, *rest = list(call.args)
        given, launch = rest[: len(rest) - len(tags)], rest[len(rest) - len(tags) :]
        counts = {tag: expression(count, self._texts) for tag, count in zip(tags, launch, strict=True)}
        buffers = [item for item in given if _is_data(item)]
        scalars = [item for item in given if not _is_data(item)]
        x, y, z = (counts.get(f"blockIdx.{axis}", "1") for axis in "xyz")
        self.calls.append(
            HostCall(
                kernel=str(name.value),
                buffers=tuple(self._number(item) for item in buffers),
                scalars=tuple(expression(item, self._texts) for item in scalars),
                grid=(x, y, z),
                shapes=self._shapes,
            )
        )

    def _number(self, data: Any) -> int:
        """Which argument an expression for a buffer's data stands for."""
        while type(data).__name__ == "Call":
            data = data.args[0]
        return self._arguments[_identity(data)]


def _is_data(value: Any) -> bool:
    return type(value).__name__ == "Call" and "buffer_data" in value.op.name


def _identity(value: Any) -> int:
    """TVM's variables compare by structure, their hashes by identity."""
    return int(value.__hash__())
