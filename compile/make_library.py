"""The step that compiles what runs the weights: a library for TVM or for MLC, or a program for WebGPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_router.compile.build_context import Workshop
from edge_router.compile.fingerprint import key, library_inputs, program_inputs
from edge_router.compile.recipe import MLC, PROGRAM, Recipe
from edge_router.errors import BuildFailed, InvalidModel
from edge_router.system.disk import require_space
from edge_router.vram.library import write_usage

if TYPE_CHECKING:
    from edge_router.compile.targets import TargetSpec
    from edge_router.mlc_python import MlcPython

_LIBRARY_BYTES = 64 << 20  # what compiling and linking leave behind, with room for their temporary files


def check_tools(recipe: Recipe) -> None:
    """That there is what a library takes beside weights. Raises `EngineUnavailable`, `LinkerMissing`."""
    from edge_router.compile.link import library_name, linker
    from edge_router.mlc_python import mlc_python

    if recipe.target == MLC:
        mlc_python(recipe.mlc_python)
    elif recipe.shared:
        linker(Path(library_name(shared=True)), recipe.card.name)


class LibraryStep:
    """`config` is an mlc-chat-config with the wanted windows, `model_dir` the weights that it will run.

    After `make`, `by_mlc` says whether mlc_llm's own compiler made the library.
    """

    def __init__(
        self, recipe: Recipe, workshop: Workshop, config: Mapping[str, object], model_dir: Path
    ) -> None:
        self._recipe, self._shop, self._model_dir = recipe, workshop, model_dir
        self._numbers = _numbers(config)
        self.by_mlc = False

    def make(self) -> tuple[Path, str]:
        """The file and its key."""
        if self._recipe.target == PROGRAM:
            return self._program()
        if self._recipe.target == MLC:
            return self._for_mlc()
        return self._library(shared=self._recipe.shared)

    def _library(self, *, shared: bool) -> tuple[Path, str]:
        from edge_router.compile.link import library_name

        target, name, shop = self._target(), library_name(shared=shared), self._shop
        inputs = library_inputs(self._recipe, self._numbers, target.fingerprint_parts(), name)
        found = shop.store.find("library", key(inputs))
        if found is None:
            shop.may_build("library", inputs)
            require_space(shop.paths.artifacts, _LIBRARY_BYTES)
            found = shop.store.obtain(
                "library",
                key(inputs),
                lambda folder: self._compile(target, folder / name),
                inputs=inputs,
                check=lambda folder: self._check(target, folder / name),
            )
        return found / name, key(inputs)

    def _target(self) -> TargetSpec:
        from edge_router.compile.targets import gpu_target, host_target

        kind, _, wanted = self._recipe.target.partition(":")
        if kind in ("llvm", MLC):  # ours run in MLC's engine on the processor alone
            return replace(host_target(self._shop.host()), bytes=self._recipe.bytes)
        return gpu_target(kind, self._shop.host(), wanted if wanted and not wanted.isdigit() else None)

    def _compile(self, target: TargetSpec, output: Path) -> None:
        from edge_router.compile.library import compile_library

        named = {"model": self._recipe.card.name, **self._numbers}
        form, progress = self._recipe.quantization, self._shop.progress
        self._described = compile_library(named, form, target, output, progress=progress)

    def _check(self, target: TargetSpec, library: Path) -> None:
        """That it loads, and asks for just the weights that are there; what it says of itself is kept.

        One for a GPU may be for another machine's, so it is not loaded.
        """
        from edge_router.compile.library import check_device_code, check_library
        from edge_router.compile.targets import GPUS
        from edge_router.store.tensor_index import check_parameters

        with self._shop.progress.step("verify"):
            if target.kind in GPUS:
                check_device_code(library, target)
                said = self._described
            else:
                said = check_library(library)
            write_usage(library, cast("Mapping[str, int]", said["memory_usage"]))
            try:
                check_parameters(self._model_dir, cast("Sequence[Mapping[str, object]]", said["params"]))
            except InvalidModel as error:
                raise BuildFailed(self._recipe.card.name, "verify", str(error)) from error

    def _program(self) -> tuple[Path, str]:
        """It serves any windows."""
        from edge_router.compile.webgpu.build import PROGRAM_FILE, check, write

        shop = self._shop
        inputs = program_inputs(self._recipe, self._numbers)
        found = shop.store.find("program", key(inputs))
        if found is None:
            shop.may_build("program", inputs)
            named = {"model": self._recipe.card.name, **self._numbers}
            found = shop.store.obtain(
                "program",
                key(inputs),
                lambda folder: write(named, self._recipe.quantization, folder, progress=shop.progress),
                inputs=inputs,
                check=check,
            )
        return found / PROGRAM_FILE, key(inputs)

    def _for_mlc(self) -> tuple[Path, str]:
        """A library of ours where MLC's engine runs one, else what mlc_llm's own compiler makes."""
        from edge_router.compile.mlc import check_sliding, runs_ours
        from edge_router.mlc_python import mlc_python

        python = mlc_python(self._recipe.mlc_python)
        if runs_ours(self._recipe, self._numbers, python):
            return self._library(shared=True)
        self.by_mlc = True
        check_sliding(self._recipe, str(self._numbers.get("model_type")))
        return self._mlc(python)

    def _mlc(self, python: MlcPython) -> tuple[Path, str]:
        from edge_router.compile.link import shared_suffix
        from edge_router.compile.mlc import NO_COMPILER, compile_mlc, lacks_compiler_only, mlc_inputs
        from edge_router.compile.targets import host_target

        recipe, shop, directory = self._recipe, self._shop, self._model_dir
        name, progress = f"model{shared_suffix()}", shop.progress
        inputs = mlc_inputs(recipe, self._numbers, host_target(shop.host()).fingerprint_parts(), python)
        found = shop.store.find("mlc-library", key(inputs))
        if found is None:
            shop.may_build("mlc-library", inputs)
            if lacks_compiler_only(recipe, self._numbers, python):
                progress.note(NO_COMPILER)
            require_space(shop.paths.artifacts, _LIBRARY_BYTES)
            found = shop.store.obtain(
                "mlc-library",
                key(inputs),
                lambda folder: compile_mlc(
                    recipe, directory, folder / name, python=python, progress=progress
                ),
                inputs=inputs,
            )
        return found / name, key(inputs)


def _numbers(config: Mapping[str, object]) -> dict[str, object]:
    """What of an mlc-chat-config a library depends on."""
    names = ("model_type", "active_vocab_size", "sliding_window_size", "attention_sink_size")
    outer = {name: config[name] for name in names if name in config}
    return {**cast("Mapping[str, object]", config["model_config"]), **outer}
