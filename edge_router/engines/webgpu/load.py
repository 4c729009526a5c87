"""The configured weak model on a GPU of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from edge_router.config import Config
from edge_router.engines.local.directory import ModelDirectory
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.webgpu.adapters import ENGINE, Adapter, adapters, choose
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.errors import ArtifactCorrupt
from edge_router.paths import Paths
from edge_router.program import Program, Windows, footprint, read_program
from edge_router.types import Progress, SilentProgress


def load(config: Config, paths: Paths, progress: Progress) -> LocalEngine:
    """Fetched and built where it is missing and `weak.build` allows that; the GPU is chosen before.

    Raises `UnknownModel`, `WeightsError`, `ArtifactError`, `StorageError`, `MissingExtra`,
    `EngineUnavailable`, `OutOfMemory`.
    """
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure

    adapter = choose(config.weak.device, adapters())
    if adapter.kind == "software":
        progress.note(f"{adapter} stands in for a GPU; the engine tvm is faster on this processor")
    card = find_model(config.weak.model)
    compiled = ensure(
        card,
        BuildSettings.from_config(config, card),
        paths=paths,
        progress=progress,
        build=config.weak.build,
        offline=config.offline,
    )
    return open_model(
        compiled.model_dir,
        compiled.library,
        adapter,
        windows=windows_of(compiled.config, config.weak.max_sequences),
        model_id=compiled.card.name,
        progress=progress,
    )


def open_model(
    model_dir: Path,
    program: Path,
    adapter: Adapter,
    *,
    windows: Windows,
    model_id: str,
    progress: Progress | None = None,
) -> LocalEngine:
    """An engine for an MLC model directory and the program that was compiled for it.

    Raises `InvalidModel`, `ArtifactCorrupt`, `EngineUnavailable`, `OutOfMemory`, `TemplateError`.
    """
    directory = ModelDirectory.read(model_dir, model_id)
    read = read_program(program)
    return LocalEngine(
        lambda: _runner(model_dir, read, adapter, windows, directory.config, progress or SilentProgress()),
        name=ENGINE,
        model_id=model_id,
        tokenizer=directory.tokenizer,
        template=directory.template,
        end_tokens=directory.end_tokens,
        defaults=directory.defaults,
    )


def windows_of(chat: Mapping[str, object], sequences: int) -> Windows:
    """As mlc-chat-config.json has them."""
    context, chunk = (cast(int, chat[name]) for name in ("context_window_size", "prefill_chunk_size"))
    return Windows(context, min(chunk, context), sequences)


def _runner(
    model_dir: Path,
    program: Program,
    adapter: Adapter,
    windows: Windows,
    chat: Mapping[str, object],
    progress: Progress,
) -> WebGpuRunner:
    vocabulary = chat.get("active_vocab_size")
    if vocabulary is not None and not isinstance(vocabulary, int):
        raise ArtifactCorrupt(model_dir, f"active_vocab_size is {vocabulary!r}")
    total = footprint(program, windows).weights
    weights = DirectoryWeights(model_dir)
    with progress.step("load", total=total, unit="bytes") as step:
        return WebGpuRunner(
            adapter, program, windows, weights.read, vocab_size=vocabulary, loaded=step.advance
        )
