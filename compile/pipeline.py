"""From a model card to something that runs: weights are fetched and quantized, a library is compiled.

What is there already is found by its fingerprint in a few milliseconds, without TVM, numpy or a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_router.catalog import ModelCard, PypiSource, Source, complete_card
from edge_router.compile.fingerprint import Inputs, key, library_inputs, program_inputs, weights_inputs, why
from edge_router.compile.ready import bring_up_to_date, chat_config, is_current, is_ready
from edge_router.compile.recipe import MLC, PROGRAM, BuildSettings, Recipe, recipe
from edge_router.device import Host, host
from edge_router.disk import require_space
from edge_router.errors import (
    ArtifactMissing,
    BuildFailed,
    InvalidModel,
    UnsupportedTarget,
    WeightsUnavailable,
)
from edge_router.hub import content_hash, fetch, target_of
from edge_router.paths import Paths
from edge_router.store import ArtifactStore, changed_inputs
from edge_router.types import Progress, SilentProgress

if TYPE_CHECKING:
    from edge_router.compile.equalize import Activations
    from edge_router.compile.targets import TargetSpec

__all__ = ["BuildSettings", "CompiledModel", "ensure"]

_LIBRARY_BYTES = 64 << 20  # what compiling and linking leave behind, with room for their temporary files
_SPARE_BYTES = 16 << 20  # tokenizer, index, manifest


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """`config` is mlc-chat-config.json with the windows that the library was compiled for.

    `library` is what runs the weights: for a GPU through WebGPU it is a program, see `edge_router.program`.
    """

    card: ModelCard
    model_dir: Path
    library: Path
    config: Mapping[str, object]
    weights_key: str
    library_key: str


def ensure(
    card: ModelCard,
    settings: BuildSettings,
    *,
    paths: Paths,
    progress: Progress | None = None,
    build: bool = True,
    offline: bool = False,
) -> CompiledModel:
    """The model of `card`, ready to run on this machine; whatever is missing is made now.

    With `build` False nothing is fetched or made: `ArtifactMissing` instead. Otherwise raises what fetching
    (`WeightsError`), reading (`InvalidModel`, `UnsupportedArchitecture`), compiling (`BuildFailed`,
    `UnsupportedTarget`) and storing (`StorageError`) raise; nothing half-made stays.
    """
    shown = progress or SilentProgress()
    store = ArtifactStore(paths.artifacts, progress=shown)
    maker = _Maker(recipe(card, settings), paths, store, shown, build, offline)
    model_dir, weights_key = maker.weights()
    config = _with_windows(chat_config(model_dir), maker.recipe)
    library, library_key = maker.library(config, model_dir)
    return CompiledModel(maker.recipe.card, model_dir, library, config, weights_key, library_key)


class _Maker:
    """One call of `ensure`: what to make, where, and whether it may be made."""

    def __init__(
        self,
        wanted: Recipe,
        paths: Paths,
        store: ArtifactStore,
        progress: Progress,
        build: bool,
        offline: bool,
    ) -> None:
        self.recipe = wanted
        self._paths, self._store, self._progress = paths, store, progress
        self._build, self._offline = build, offline

    # ---- weights -------------------------------------------------------------------------------------------

    def weights(self) -> tuple[Path, str]:
        """The MLC directory and its key."""
        identity, path = _pinned(self.recipe.source), None
        if identity is None:
            if self._build and not target_of(self.recipe.source, self._paths.downloads).exists():
                self._check_supported()
            path = self._fetch()
            hashes = self._paths.downloads / "hashes"
            content = content_hash(path, memory=hashes, progress=self._progress)
            if is_ready(path) and is_current(path, self.recipe.quantization):
                return path, content[:32]
            identity = {"content": content}
        inputs = weights_inputs(self.recipe, identity, self._moments_hash())
        found = self._store.find("weights", key(inputs))
        if found is None:
            self._may_build("weights", inputs)
            self._check_supported()
            found = self._make_weights(path or self._fetch(), inputs)
        return found, key(inputs)

    def _fetch(self) -> Path:
        """The source on this machine; a card without numbers is completed from it."""
        wanted = self.recipe
        try:
            path = fetch(
                wanted.source,
                self._paths.downloads,
                progress=self._progress,
                offline=self._offline or not self._build,
            )
        except WeightsUnavailable as error:
            if self._build:
                raise
            raise ArtifactMissing(wanted.card.name, "weights") from error
        if not wanted.card.config:
            self.recipe = replace(wanted, card=complete_card(wanted.card, path))
        return path

    def _make_weights(self, path: Path, inputs: Inputs) -> Path:
        fill = self._renew if is_ready(path) else self._quantize
        return self._store.obtain(
            "weights",
            key(inputs),
            lambda folder: fill(path, folder),
            inputs=inputs,
            check=self._check_weights,
        )

    def _renew(self, path: Path, folder: Path) -> None:
        self._progress.note(f"{path} is an older MLC directory; it is used in today's form")
        bring_up_to_date(path, folder)

    def _quantize(self, path: Path, folder: Path) -> None:
        from edge_router.compile.package import Windows, write_model
        from edge_router.compile.quantize import supported
        from edge_router.compile.readers import open_weights

        card = self.recipe.card
        reader = open_weights(path)
        try:
            write_model(
                reader,
                folder,
                config=card.config,
                form=supported(self.recipe.quantization),
                quantizer=self.recipe.quantizer,
                activations=self._activations(),
                windows=Windows(card.context_window_size, card.prefill_chunk_size),
                threads=self._host().physical_cores,
                progress=self._progress,
            )
        finally:
            reader.close()

    def _check_weights(self, folder: Path) -> None:
        from edge_router.compile.readers.mlc import records

        with self._progress.step("verify"):
            records(folder, hashes=True)

    def _check_supported(self) -> None:
        """Architecture, format and disk space, before anything is fetched or minutes are spent."""
        from edge_router.compile.parameters import parameters
        from edge_router.compile.quantize import stored_bytes, supported
        from edge_router.compile.quantizers import quantizer

        form, card = supported(self.recipe.quantization), self.recipe.card
        quantizer(self.recipe.quantizer)
        if self.recipe.target == PROGRAM:
            from edge_router.compile.webgpu.build import check_quantization

            check_quantization(form.name)
        if card.config:
            wanted = parameters(card.config, card.name)
            needed = sum(stored_bytes(form, parameter) for parameter in wanted)
            require_space(self._paths.artifacts, needed + _SPARE_BYTES)

    def _moments_hash(self) -> str | None:
        import hashlib

        raw = self._moments_bytes()
        return None if raw is None else hashlib.sha256(raw).hexdigest()

    def _activations(self) -> Activations:
        from edge_router.compile.equalize import Activations
        from edge_router.compile.moments import read_activations

        raw = self._moments_bytes()
        return Activations() if raw is None else read_activations(raw)

    def _moments_bytes(self) -> bytes | None:
        """The file beside the card; other ways of quantizing have no use for it."""
        name = self.recipe.card.moments
        if name is None or self.recipe.quantizer != "weighted":
            return None
        from importlib.resources import files

        file = files("edge_router.models") / "cards" / name
        if not file.is_file():
            raise InvalidModel(self.recipe.card.name, f"its card names {name}, which is not there")
        return file.read_bytes()

    # ---- library -------------------------------------------------------------------------------------------

    def library(self, config: Mapping[str, object], model_dir: Path) -> tuple[Path, str]:
        """The compiled library and its key. `config` is an mlc-chat-config with the wanted windows."""
        if self.recipe.target == PROGRAM:
            return self._program(config)
        if self.recipe.target == MLC:
            return self._mlc(config, model_dir)
        from edge_router.compile.link import library_name

        numbers, target, name = _numbers(config), self._target(), library_name()
        inputs = library_inputs(self.recipe, numbers, target.fingerprint_parts(), name)
        found = self._store.find("library", key(inputs))
        if found is None:
            self._may_build("library", inputs)
            require_space(self._paths.artifacts, _LIBRARY_BYTES)
            found = self._store.obtain(
                "library",
                key(inputs),
                lambda folder: self._compile(numbers, target, folder / name),
                inputs=inputs,
                check=lambda folder: self._check_library(folder / name, model_dir),
            )
        return found / name, key(inputs)

    def _target(self) -> TargetSpec:
        from edge_router.compile.targets import host_target

        if self.recipe.target != "llvm":
            raise UnsupportedTarget(self.recipe.target, "only this machine's processor can be compiled for")
        return host_target(self._host())

    def _compile(self, numbers: Mapping[str, object], target: TargetSpec, output: Path) -> None:
        from edge_router.compile.library import compile_library

        named = {"model": self.recipe.card.name, **numbers}
        compile_library(named, self.recipe.quantization, target, output, progress=self._progress)

    def _check_library(self, library: Path, model_dir: Path) -> None:
        """That it loads, and asks for just the weights that are there."""
        from edge_router.compile.library import check_library
        from edge_router.compile.readers.mlc import records

        with self._progress.step("verify"):
            held = records(model_dir)
            asked = cast("Sequence[Mapping[str, object]]", check_library(library)["params"])
            wrong = [
                str(entry["name"])
                for entry in asked
                if entry["name"] not in held
                or held[str(entry["name"])].shape != tuple(cast("Sequence[int]", entry["shape"]))
            ]
            if wrong:
                name = self.recipe.card.name
                raise BuildFailed(name, "verify", f"the weights have no fitting {', '.join(wrong[:4])}")

    # ---- program -------------------------------------------------------------------------------------------

    def _program(self, config: Mapping[str, object]) -> tuple[Path, str]:
        """The program and its key; it serves any windows."""
        from edge_router.compile.webgpu.build import PROGRAM_FILE, check, write

        numbers = _numbers(config)
        inputs = program_inputs(self.recipe, numbers)
        found = self._store.find("program", key(inputs))
        if found is None:
            self._may_build("program", inputs)
            named = {"model": self.recipe.card.name, **numbers}
            found = self._store.obtain(
                "program",
                key(inputs),
                lambda folder: write(named, self.recipe.quantization, folder, progress=self._progress),
                inputs=inputs,
                check=check,
            )
        return found / PROGRAM_FILE, key(inputs)

    # ---- mlc -----------------------------------------------------------------------------------------------

    def _mlc(self, config: Mapping[str, object], model_dir: Path) -> tuple[Path, str]:
        """The library that mlc_llm's own compiler makes, and its key."""
        from edge_router.compile.link import shared_suffix
        from edge_router.compile.mlc import compile_mlc, mlc_inputs
        from edge_router.compile.targets import host_target

        name = f"model{shared_suffix()}"
        inputs = mlc_inputs(self.recipe, _numbers(config), host_target(self._host()).fingerprint_parts())
        found = self._store.find("mlc-library", key(inputs))
        if found is None:
            self._may_build("mlc-library", inputs)
            require_space(self._paths.artifacts, _LIBRARY_BYTES)
            found = self._store.obtain(
                "mlc-library",
                key(inputs),
                lambda folder: compile_mlc(self.recipe, model_dir, folder / name, progress=self._progress),
                inputs=inputs,
            )
        return found / name, key(inputs)

    # ---- both ----------------------------------------------------------------------------------------------

    def _host(self) -> Host:
        return host(self._paths.artifacts / "host.json")

    def _may_build(self, kind: str, inputs: Inputs) -> None:
        """Raises `ArtifactMissing` if not; else says why, where something older was there."""
        name = self.recipe.card.name
        if not self._build:
            raise ArtifactMissing(name, kind)
        nearest = self._store.nearest(kind, inputs)
        if nearest is not None:
            changed = changed_inputs(nearest.inputs, inputs)
            reason = why(changed, nearest.inputs, inputs)
            self._progress.note(f"the {kind} of {name}: making another, for this changed: {reason}")


def _pinned(source: Source) -> dict[str, object] | None:
    """What says all about a source without looking at it; None where only its content does."""
    if isinstance(source, PypiSource):
        return {"wheel": source.sha256, "member": source.member}
    return None


def _with_windows(config: Mapping[str, object], wanted: Recipe) -> dict[str, object]:
    windows = wanted.windows
    inner = {**cast("Mapping[str, object]", config["model_config"]), **windows}
    top = {name: windows[name] for name in ("context_window_size", "prefill_chunk_size")}
    return {**config, **top, "model_config": inner}


def _numbers(config: Mapping[str, object]) -> dict[str, object]:
    """What of an mlc-chat-config a library depends on."""
    names = ("model_type", "active_vocab_size", "sliding_window_size", "attention_sink_size")
    outer = {name: config[name] for name in names if name in config}
    return {**cast("Mapping[str, object]", config["model_config"]), **outer}
