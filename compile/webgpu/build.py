"""From a model's numbers to a program: TVM lowers the module, the exporter writes down what is left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.program import Program, Shader, read_program, write_program
from edge_router.types import Progress, SilentProgress

if TYPE_CHECKING:
    from edge_router.compile.webgpu.numbers import Decoder

PROGRAM_FILE = "program.json"
FUNCTIONS = ("decode", "prefill", "batch")


def build_program(
    config: Mapping[str, object], quantization: str, *, progress: Progress | None = None
) -> Program:
    """`config` is an MLC `model_config` with `model_type`. Nothing depends on the context or the chunk.

    Raises `UnsupportedArchitecture`, `UnsupportedTarget` for a quantization, `InvalidModel`.
    """
    from edge_router.compile.webgpu.numbers import Decoder

    decoder = Decoder.of(config, quantization)
    with (progress or SilentProgress()).step("compile"):
        return _build(config, quantization, decoder)


def write(config: Mapping[str, object], quantization: str, folder: Path, *, progress: Progress) -> None:
    write_program(build_program(config, quantization, progress=progress), folder / PROGRAM_FILE)


def check(folder: Path) -> None:
    """Raises `ArtifactCorrupt`."""
    read_program(folder / PROGRAM_FILE)


def _build(config: Mapping[str, object], quantization: str, decoder: Decoder) -> Program:
    import tvm
    from tvm import tirx
    from tvm.relax.frontend import nn

    from edge_router.compile.webgpu.export import Exporter
    from edge_router.compile.webgpu.kernels import build
    from edge_router.compile.webgpu.lower import lower, target
    from edge_router.compile.webgpu.model import Causal, Shaders, buffers_of

    shaders = Shaders()
    model = Causal(shaders, decoder)
    plain = {"param_mode": "plain", "effect_mode": "none"}
    rows = {"decode": 1, "prefill": "n", "batch": "n"}
    spec = {name: {"control": nn.spec.Tensor([n, 4], "uint32"), "$": plain} for name, n in rows.items()}
    with target():
        module, parameters = model.export_tvm(spec=spec)
        lowered = lower(module)
        kernels = {v.name_hint: f for v, f in lowered.functions_items() if isinstance(f, tirx.PrimFunc)}
        made, calls = build(kernels, target())
    names = ["control", *(name for name, _ in parameters)]
    functions = {name: Exporter(lowered[name], names, shaders.by_name, calls).export() for name in FUNCTIONS}
    own = {
        name: Shader(shader.source, shader.name, shader.writes, len(shader.scalars))
        for name, shader in shaders.by_name.items()
    }
    used = {launch.shader for function in functions.values() for launch in function.launches}
    return Program(
        model={**config, "quantization": quantization, "tvm": tvm.__version__},
        vocab_size=decoder.sizes.vocabulary,
        shaders={name: shader for name, shader in {**own, **made}.items() if name in used},
        buffers=buffers_of(parameters, decoder),
        functions=functions,
    )
