"""What the planner says against what a process really takes, over a matrix of settings.

Each setting runs in a process of its own: it plans, loads, reads prompts until every conversation's context
is full, decodes and samples. Its peak is then held against its plan, which is also its budget.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.config.settings import Config
from edge_router.errors import GenerationFailed
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.system.telemetry import switched_off
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel

LOADED, PREFILLED, FULL = "loaded", "longest prefill", "full context"  # the stages
WITHIN = 0.05  # how far below its plan a process may stay; above it never
_LONGEST, _MOST = 8192, 4  # what libraries are compiled for: more of either costs a process nothing

# Random weights in other shapes than the demo model's: wide layers, and many heads that share nothing.
SHAPES: Mapping[str, Mapping[str, object]] = {
    "random-wide": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "random-heads": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
}
_COMMON: Mapping[str, object] = {
    "model_type": "llama",
    "head_dim": 64,
    "vocab_size": 49152,  # the demo model's, whose tokenizer they share
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": _LONGEST,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Tokens; `conversations` are held at the same time, each with a full context."""

    context: int
    chunk: int
    conversations: int = 1


SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    "demo": (
        Setting(512, 64),
        Setting(512, 512, 4),
        Setting(1024, 256),
        Setting(2048, 64, 2),
        Setting(2048, 512),
        Setting(2048, 2048),
        Setting(4096, 512),
        Setting(8192, 2048),
    ),
    "random-wide": (
        Setting(512, 64),
        Setting(512, 512),
        Setting(1024, 64, 4),
        Setting(2048, 512, 2),
        Setting(2048, 2048),
        Setting(4096, 256),
        Setting(4096, 2048),
        Setting(8192, 512),
    ),
    "random-heads": (
        Setting(512, 64),
        Setting(512, 256, 2),
        Setting(1024, 512),
        Setting(2048, 2048, 2),
        Setting(4096, 512, 4),
        Setting(4096, 64),
        Setting(8192, 256, 2),
        Setting(8192, 2048, 4),
    ),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A moment, and what the process held then, had held at most, and had been handed out; bytes.

    `allocated` is for the model alone, the tokenizer left out; None where the system does not tell.
    """

    name: str
    resident: int
    peak: int
    allocated: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One setting: the plan's bytes by part, and the moments in their order."""

    model: str
    setting: Setting
    planned: Mapping[str, int]
    stages: tuple[Stage, ...]

    @property
    def total(self) -> int:
        return self.planned["total"]

    @property
    def peak(self) -> int:
        return self.stages[-1].peak

    @property
    def share(self) -> float:
        """Of the plan that was really taken."""
        return self.peak / self.total

    @property
    def allocated_share(self) -> float | None:
        """Of weights, KV cache and workspace as planned, what the C library was asked for."""
        allocated = self.stages[-1].allocated
        model = sum(self.planned[part] for part in ("parameters", "kv_cache", "workspace"))
        return None if allocated is None else allocated / model

    def expected(self, stage: Stage) -> int:
        """What the plan says of one of the stages, the margin left out."""
        held = sum(self.planned[part] for part in ("runtime", "router", "parameters"))
        if stage.name == LOADED:
            return held
        filled = self.setting.chunk / (self.setting.context * self.setting.conversations)
        cache = self.planned["kv_cache"] * (filled if stage.name == PREFILLED else 1)
        return held + self.planned["workspace"] + int(cache)

    @property
    def holds(self) -> bool:
        return 1 - WITHIN <= self.share <= 1

    def to_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "context_window_size": self.setting.context,
            "prefill_chunk_size": self.setting.chunk,
            "max_sequences": self.setting.conversations,
            "planned_bytes": dict(self.planned),
            "peak_bytes": self.peak,
            "share": round(self.share, 4),
            "allocated_share": None if self.allocated_share is None else round(self.allocated_share, 4),
            "holds": self.holds,
            "stages": [asdict(stage) for stage in self.stages],
        }


def bench_memory(
    config: Config, paths: Paths, progress: Progress, settings: Mapping[str, Sequence[Setting]] | None = None
) -> Iterator[Outcome]:
    """One outcome after the other; models and libraries are built where they are missing.

    Raises what building raises, and `GenerationFailed` for a process that ends without an answer.
    """
    for name, wanted in (settings or SETTINGS).items():
        libraries: dict[int, CompiledModel] = {}
        for setting in wanted:
            if setting.chunk not in libraries:
                libraries[setting.chunk] = _compiled(name, setting.chunk, config, paths, progress)
            compiled = libraries[setting.chunk]
            title = compiled.card.name if name == "demo" else name
            with progress.step(f"{title} {setting.context}/{setting.chunk} x {setting.conversations}"):
                yield measure(compiled, title, setting, config, paths)


def measure(compiled: CompiledModel, title: str, setting: Setting, config: Config, paths: Paths) -> Outcome:
    """In a process of its own. Raises `GenerationFailed`."""
    options = {
        "model": title,
        "model_dir": str(compiled.model_dir),
        "library": str(compiled.library),
        "chat": dict(compiled.config),
        "setting": asdict(setting),
        "threads": config.weak.threads,
        "router": config.router.name,
        "home": str(paths.artifacts.parent),
    }
    done = subprocess.run(
        [sys.executable, "-m", "edge_router.bench.memory_side"],
        input=json.dumps(options),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=switched_off(os.environ),
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise GenerationFailed("tvm", *last or [f"its process ended with {done.returncode}"])
    found = strict_json.parse_object(done.stdout.splitlines()[-1])
    return Outcome(title, setting, found["planned"], tuple(Stage(**stage) for stage in found["stages"]))


def _compiled(name: str, chunk: int, config: Config, paths: Paths, progress: Progress) -> CompiledModel:
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.config.sections import WeakConfig

    card = find_model(WeakConfig().model)
    if name != "demo":
        card = find_model(str(_random_model(name, config, paths, progress)))
    settings = BuildSettings(context_window_size=_LONGEST, prefill_chunk_size=chunk, max_sequences=_MOST)
    return ensure(card, settings, paths=paths, progress=progress, offline=config.offline)


def _random_model(name: str, config: Config, paths: Paths, progress: Progress) -> Path:
    """The folder of a model with random weights, made once."""
    from edge_router.compile.fingerprint import key
    from edge_router.compile.random_model import write_random_model
    from edge_router.compile.weights.package import PackageWindows
    from edge_router.store import ArtifactStore

    numbers = {**_COMMON, **SHAPES[name]}
    inputs = {"model": name, "config": numbers}
    found = ArtifactStore(paths.artifacts, progress=progress).find("bench", key(inputs))
    if found is not None:
        return found
    tokenizer = _compiled("demo", SETTINGS["demo"][0].chunk, config, paths, progress).model_dir

    def build(folder: Path) -> None:
        write_random_model(folder, numbers, tokenizer, PackageWindows(_LONGEST, 512))

    with progress.step(f"make {name}"):
        return ArtifactStore(paths.artifacts, progress=progress).obtain(
            "bench", key(inputs), build, inputs=inputs
        )
