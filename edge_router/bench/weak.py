"""How fast the weak model runs here, alone or beside another format; beside other programs: peers/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.bench.weak_results import USUAL, Lengths, MedianRange, WeakBench
from edge_router.bench.weak_rounds import DECODE_PROMPT, OURS, Prompts, compared, take
from edge_router.bench.weak_sides import on_cuda
from edge_router.config.settings import Config
from edge_router.errors import UnknownName
from edge_router.system.paths import Paths
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel
    from edge_router.engines.webgpu.profile import Profile

ROUNDS = 5


def bench_weak(
    config: Config,
    paths: Paths,
    *,
    against: str | None = None,
    progress: Progress,
    rounds: int = ROUNDS,
    lengths: Lengths = USUAL,
    random: bool = False,
) -> WeakBench:
    """Build what is missing, then measure. `against` is None or a quantization.

    `random`: not the model's own weights, but as many drawn ones.

    Raises `UnknownName`, and what building and starting the engine raise.
    """
    from edge_router.bench.random_weights import random_model
    from edge_router.engines import resolved
    from edge_router.engines.tvm.engine import built

    if against is not None and against not in QUANTIZATIONS:
        raise UnknownName("format to compare with", against, tuple(QUANTIZATIONS))
    config = resolved(config)
    if random:
        with random_model(config, paths, progress) as drawn:
            return measured(config, drawn, paths, None, progress, rounds, lengths)
    return measured(config, built(config, paths, progress), paths, against, progress, rounds, lengths)


def measured(
    config: Config, compiled: CompiledModel, paths: Paths, against: str | None, progress: Progress,
    rounds: int, lengths: Lengths,
) -> WeakBench:  # fmt: skip
    """Of a model that is built; see `bench_weak`."""
    from edge_router.engines.tvm.engine import built, thread_count

    threads = thread_count(config, paths)
    sides = {OURS: _options(config, compiled, threads)}
    if against is not None:
        other = config.replace(**{"weak.quantization": against})
        sides[against] = _options(other, built(other, paths, progress), threads)
    taken = take(sides, Prompts.of(compiled.model_dir / "tokenizer.json"), rounds, lengths, progress)
    ours = taken.pop(OURS)
    gpu = _profiled(config, compiled) if config.weak.engine == "webgpu" else None
    name, limit = _device(config, compiled, paths) if gpu is None else (gpu.adapter, None)
    return WeakBench(
        device=name,
        model=compiled.card.name,
        quantization=str(compiled.config["quantization"]),
        threads=threads,
        speed=ours.speed(),
        ttft_ms=MedianRange.of(ours.ttft_ms),
        peak_bytes=ours.peak_bytes,
        against={name: compared(ours, theirs) for name, theirs in taken.items()},
        gpu=gpu,
        python_ms=MedianRange.of(ours.python_ms) if ours.python_ms else None,
        memory_limit=limit,
    )


def _device(config: Config, compiled: CompiledModel, paths: Paths) -> tuple[str, float | None]:
    """Its name, and how many tokens per second an NVIDIA GPU's memory could be read for."""
    from edge_router.device import gpus, host
    from edge_router.vram import Settings
    from edge_router.vram.shapes import ModelShape
    from edge_router.vram.speed import decode_tokens_per_s

    if not on_cuda({"engine": config.weak.engine, "device": config.weak.device}):
        return host(paths.artifacts / "host.json").cpu_name, None
    gpu = next((gpu for gpu in gpus() if gpu.maker == "nvidia"), None)
    if gpu is None or gpu.bandwidth is None:
        return "CUDA" if gpu is None else gpu.name, None
    kept = 2 * (DECODE_PROMPT + USUAL.decode // 2)  # half of it is what is read on average
    settings = Settings(str(compiled.config["quantization"]), kept, kept)
    inner = cast("Mapping[str, object]", compiled.config["model_config"])
    numbers = {"model_type": compiled.config["model_type"], **inner}
    return gpu.name, decode_tokens_per_s(ModelShape.of(numbers, compiled.card.name), settings, gpu.bandwidth)


def _options(config: Config, compiled: CompiledModel, threads: int) -> dict[str, object]:
    return {
        "engine": config.weak.engine,
        "device": config.weak.device,
        "model_dir": str(compiled.model_dir),
        "library": str(compiled.library),
        "threads": threads,
        **{name: compiled.config[name] for name in ("context_window_size", "prefill_chunk_size")},
    }


def _profiled(config: Config, compiled: CompiledModel) -> Profile:
    from edge_router.engines.webgpu.adapters import adapters, choose
    from edge_router.engines.webgpu.profile import profile
    from edge_router.engines.webgpu.weights import DirectoryWeights
    from edge_router.webgpu_program import Windows, read_program

    read = DirectoryWeights(compiled.model_dir).read
    windows = Windows(context=512, chunk=64)
    return profile(choose(config.weak.device, adapters()), read_program(compiled.library), windows, read)
