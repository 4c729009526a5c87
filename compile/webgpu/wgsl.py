"""What all our shaders share: declarations, constants, and how a launch finds its place in the grid.

Numbers in memory are float32. What lies there as float16 (scales, the KV cache) is bound as words and
unpacked by functions that every WebGPU has. Only shaders that say so compute in float16, for which an adapter
needs the feature "shader-f16"; there is always another one without it.

Loops over registers are unrolled here, in the text: an array with a running index may end up in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from edge_router import webgpu_program
from edge_router.records import dataclass

Number = int | float | bool


@dataclass(frozen=True, slots=True)
class Binding:
    """A storage buffer; `kind` is the type of its elements in WGSL."""

    name: str
    kind: str
    write: bool = False


@dataclass(frozen=True, slots=True)
class Shader:
    """A shader and how it is launched: `grid` workgroups, an expression over `n`, the rows of the call.

    `scalars` are expressions, too. Two shaders of one name are the same. For the rest see `program.Shader`.
    """

    name: str
    source: str
    writes: tuple[bool, ...]
    grid: str
    scalars: tuple[str, ...] = ()
    about: Mapping[str, object] = field(default_factory=dict, hash=False)
    float16: bool = False

    @property
    def compiled(self) -> webgpu_program.Shader:
        """As it stands in a program."""
        return webgpu_program.Shader(
            self.source, self.name, self.writes, len(self.scalars), self.about, self.float16
        )


def shader(
    name: str,
    *,
    bindings: Sequence[Binding],
    constants: Mapping[str, Number],
    body: str,
    threads: int,
    grid: str,
    scalars: Mapping[str, str] | None = None,
    about: Mapping[str, object] | None = None,
    float16: bool = False,
) -> Shader:
    """`body` defines `fn run(block: u32, thread: u32)`; `scalars.name` in it is one of `scalars`.

    A folded grid is a little larger than asked for: `run` must bear blocks beyond its last.
    """
    given = scalars or {}
    lines = ["enable f16;"] if float16 else []
    lines += [_binding(number, binding) for number, binding in enumerate(bindings)]
    if given:
        lines.append(f"struct Scalars {{ {', '.join(f'{key}: u32' for key in given)} }}")
        lines.append(f"@group(0) @binding({len(bindings)}) var<uniform> scalars: Scalars;")
    lines += [_constant(key, value) for key, value in constants.items()]
    source = "\n".join([*lines, body.strip("\n"), _entry(name, threads)])
    writes = tuple(item.write for item in bindings)
    return Shader(name, source, writes, grid, tuple(given.values()), about or {}, float16)


def _binding(number: int, binding: Binding) -> str:
    access = "read_write" if binding.write else "read"
    place = f"@group(0) @binding({number})"
    return f"{place} var<storage, {access}> {binding.name}: array<{binding.kind}>;"


def _constant(name: str, value: Number) -> str:
    if isinstance(value, bool):
        return f"const {name} = {str(value).lower()};"
    return f"const {name} = {value}u;" if isinstance(value, int) else f"const {name} = {value!r}f;"


def _entry(name: str, threads: int) -> str:
    return f"""
@compute @workgroup_size({threads})
fn {name}(
  @builtin(workgroup_id) place: vec3<u32>,
  @builtin(num_workgroups) width: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {{
  run(place.z * width.x + place.x, thread);
}}
"""


def ceil_div(amount: str | int, by: int) -> str:
    return f"({amount} + {by - 1}) // {by}"
