"""The configured weak model on a GPU of this machine."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

from edge_router.config.settings import Config
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.local.settings import settle
from edge_router.engines.webgpu.adapters import ENGINE, Adapter, adapters, choose
from edge_router.engines.webgpu.residence import GpuResidence
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.errors import EngineUnavailable, InvalidModel
from edge_router.parsing import strict_json
from edge_router.prompts.directory import ModelDirectory
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress
from edge_router.vram.fitting import check_possible
from edge_router.webgpu_program import Windows, footprint, read_program

_WORTH = 1.1
_REMEMBERED = 64  # checks; older ones are made again


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
        BuildSettings.from_config(config),
        paths=paths,
        progress=progress,
        build=config.weak.build,
        offline=config.offline,
        before=lambda: check_possible(config, card, paths),
    )
    name = compiled.card.name
    engine = open_model(
        compiled.model_dir,
        compiled.library,
        adapter,
        windows=GpuResidence(name, compiled.config, adapter, config, paths, progress),
        model_id=name,
        checked=Checked(paths.artifacts / "webgpu-checked.json"),
        progress=progress,
    )
    settle(engine, compiled, config, paths, progress)
    return engine


def open_model(
    model_dir: Path,
    program: Path,
    adapter: Adapter,
    *,
    windows: Windows | GpuResidence,
    model_id: str,
    checked: Checked | None = None,
    progress: Progress | None = None,
) -> LocalEngine:
    """An engine for an MLC model directory and the program that was compiled for it.

    With a residence windows are as it plans them, each time the model is loaded. With `checked` a GPU that
    has not run this program yet is checked before. Raises `InvalidModel`, `ArtifactCorrupt`,
    `EngineUnavailable`, `OutOfMemory`, `TemplateError`.
    """
    directory = ModelDirectory.read(model_dir, model_id)
    loading = _Loading(
        model_dir,
        program,
        adapter,
        windows,
        _vocabulary(directory),
        checked,
        progress or SilentProgress(),
    )
    return LocalEngine(
        loading.runner,
        name=ENGINE,
        model_id=model_id,
        tokenizer=directory.tokenizer,
        template=directory.template,
        answers=directory.answers,
        end_tokens=directory.end_tokens,
        defaults=SamplingDefaults.from_config(directory.config),
        rest=windows.rest if isinstance(windows, GpuResidence) else None,
        plan=lambda: windows.plan if isinstance(windows, GpuResidence) else None,
    )


class Checked:
    """Which programs computed rightly on which GPUs, and whether in float16, remembered in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __contains__(self, key: str) -> bool:
        return key in self._known()

    def half(self, key: str) -> bool:
        """Whether float16 was worth while."""
        return self._known().get(key, False)

    def add(self, key: str, *, half: bool = False) -> None:
        known = [*self._known().items(), (key, half)][-_REMEMBERED:]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(dict(known)), encoding="utf-8")
        partial.replace(self._file)

    def _known(self) -> dict[str, bool]:
        try:
            known = strict_json.read_object(self._file)
        except (OSError, strict_json.NotJson):
            return {}
        return {key: bool(value) for key, value in known.items()}


@dataclass(frozen=True, slots=True)
class _Loading:
    """Everything that the scheduler's thread needs to make the runner."""

    model_dir: Path
    file: Path
    adapter: Adapter
    windows: Windows | GpuResidence
    vocabulary: int
    checked: Checked | None
    progress: Progress

    def runner(self) -> WebGpuRunner:
        program = read_program(self.file)
        windows = self.windows.windows() if isinstance(self.windows, GpuResidence) else self.windows
        total = footprint(program, windows).weights
        weights = DirectoryWeights(self.model_dir)
        with self.progress.step("load", total=total, unit="bytes") as step:
            made = WebGpuRunner(
                self.adapter,
                program,
                windows,
                weights.read,
                vocab_size=self.vocabulary,
                loaded=step.advance,
            )
        try:
            self._check(made)
        except BaseException:
            made.close()
            raise
        return made

    def _check(self, made: WebGpuRunner) -> None:
        if self.checked is None or self.adapter.kind == "software":
            return  # what runs in software shares the processor that it would be compared with
        key = self._key()
        if key not in self.checked:
            with self.progress.step("check"):
                wrong = made.mismatches()
                times = made.half_speed()
            if wrong:
                some = "; ".join(map(str, wrong[:3]))
                raise EngineUnavailable(ENGINE, f"{self.adapter} computes wrongly: {some}")
            self.progress.note(_arithmetic(self.adapter, times))
            self.checked.add(key, half=_worth(times))
        made.half = self.checked.half(key)

    def _key(self) -> str:
        adapter = self.adapter
        parts = (adapter.name, adapter.backend, adapter.driver, version("wgpu"))
        digest = hashlib.sha256(self.file.read_bytes())
        digest.update("\0".join(parts).encode())
        return digest.hexdigest()


def _worth(times: float | None) -> bool:
    """Float16 is less exact, so that it has to be faster by more than what two measurements differ in."""
    return times is not None and times > _WORTH


def _arithmetic(adapter: Adapter, times: float | None) -> str:
    if times is None:
        return f"{adapter} has no float16 arithmetic; float32 is used"
    used = "float16 is used there" if _worth(times) else "float32 is used"
    return f"{adapter} reads prompts {times:.2f} times as fast with float16 arithmetic; {used}"


def _vocabulary(directory: ModelDirectory) -> int:
    """Tokens that have a meaning; the rest of the table is padding."""
    size = directory.config.get("active_vocab_size", directory.tokenizer.vocab_size)
    if not isinstance(size, int):
        raise InvalidModel(directory.path, f"active_vocab_size is {size!r}")
    return min(size, directory.tokenizer.vocab_size)
