"""The step that gives weights in the wanted format: fetched, and quantized where they are not ready."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.catalog import PypiSource, Source, complete_card
from edge_router.catalog.cards import MEASURED
from edge_router.catalog.gguf import parts_of
from edge_router.compile.build_context import Workshop
from edge_router.compile.fingerprint import Inputs, key, weights_inputs
from edge_router.compile.make_library import check_tools
from edge_router.compile.recipe import MLC, PROGRAM, Recipe
from edge_router.compile.weights.ready import bring_up_to_date, chat_config, is_current, is_ready
from edge_router.errors import ArtifactMissing, InvalidModel, UnsupportedArchitecture, WeightsUnavailable
from edge_router.hub import content_hash, fetch, target_of
from edge_router.system.disk import require_space

if TYPE_CHECKING:
    from edge_router.compile.weights.equalize import Activations

_CHECKS = 1  # counts up when a directory is checked for more
_SPARE_BYTES = 16 << 20  # tokenizer, index, manifest


class WeightsStep:
    """After `make`, `recipe` has a card with all its numbers, also where only the weights told them."""

    def __init__(self, recipe: Recipe, workshop: Workshop) -> None:
        self.recipe, self._shop = recipe, workshop

    def make(self) -> tuple[Path, str]:
        """The MLC directory and its key."""
        shop, identity, path = self._shop, _pinned(self.recipe.source), None
        if identity is None:
            if shop.build and not target_of(self.recipe.source, shop.paths.downloads).exists():
                self._check_supported()
            path = self._fetch()
            content = self._content(path)
            if is_ready(path) and is_current(path, self.recipe.quantization):
                self._tell_ready(path)
                self._check_content(path, content)
                return path, content[:32]
            identity = {"content": content}
        inputs = weights_inputs(self.recipe, identity, self._moments_hash())
        found = shop.store.find("weights", key(inputs))
        if found is None:
            shop.may_build("weights", inputs)
            self._check_supported()
            found = self._fill(path or self._fetch(), inputs)
        return found, key(inputs)

    def _fetch(self) -> Path:
        """The source on this machine; a card without numbers is completed from it."""
        shop, wanted = self._shop, self.recipe
        try:
            path = fetch(wanted.source, shop.paths.downloads, progress=shop.progress, offline=shop.offline)
        except WeightsUnavailable as error:
            if shop.build:
                raise
            raise ArtifactMissing(wanted.card.name, "weights") from error
        if not wanted.card.config:
            card = complete_card(wanted.card, path)
            form = card.quantization if wanted.as_stored else wanted.quantization
            self.recipe = replace(wanted, card=card, quantization=form)
        return path

    def _content(self, path: Path) -> str:
        """A hash of all that is read, so of every part of a model in GGUF."""
        names = parts_of(path.name) if path.is_file() else [path.name]
        memory, progress = self._shop.paths.downloads / "hashes", self._shop.progress
        hashes = [content_hash(path.with_name(name), memory=memory, progress=progress) for name in names]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    def _fill(self, path: Path, inputs: Inputs) -> Path:
        fill = self._renew if is_ready(path) else self._quantize
        return self._shop.store.obtain(
            "weights",
            key(inputs),
            lambda folder: fill(path, folder),
            inputs=inputs,
            check=self._check,
        )

    def _tell_ready(self, path: Path) -> None:
        way = self.recipe.quantizer
        if self._shop.build and way != self.recipe.card.quantizer:
            self._shop.progress.note(f"{path} is quantized already: the quantizer {way} has no say in it")

    def _check_content(self, path: Path, content: str) -> None:
        """That a ready directory is sound and has all that it takes, before it is called good.

        What was found sound is remembered by its content, so that the next look costs nothing.
        """
        note = self._shop.paths.downloads / "hashes" / f"{content[:32]}.sound{_CHECKS}"
        if not note.exists():
            self._check(path)
            self._check_fit(path)
            with suppress(OSError):  # then it is read again
                note.parent.mkdir(parents=True, exist_ok=True)
                note.touch()
        self._tell_lacking(path)

    def _check_fit(self, path: Path) -> None:
        """That its arrays are those of its configuration."""
        from edge_router.architectures import architecture
        from edge_router.compile.readers.mlc import MlcReader

        with suppress(UnsupportedArchitecture):  # what is of another package is known to nobody here
            architecture(str(chat_config(path).get("model_type")))
            MlcReader(path).close()

    def _tell_lacking(self, path: Path) -> None:
        from edge_router.prompts.directory import lacking

        if self._shop.build and (lack := lacking(path, self.recipe.card.name)) is not None:
            self._shop.progress.note(lack)

    def _renew(self, path: Path, folder: Path) -> None:
        self._shop.progress.note(f"{path} is an older MLC directory; it is used in today's form")
        bring_up_to_date(path, folder)
        self._check_fit(folder)
        self._tell_lacking(folder)

    def _quantize(self, path: Path, folder: Path) -> None:
        from edge_router.compile.readers import open_weights
        from edge_router.compile.weights.package import PackageWindows, write_model
        from edge_router.compile.weights.quantize import supported

        card = self.recipe.card
        reader = open_weights(path)
        try:
            for doubt in reader.doubts:
                self._shop.progress.note(doubt)
            write_model(
                reader,
                folder,
                config=card.config,
                form=supported(self.recipe.quantization),
                quantizer=self.recipe.quantizer,
                activations=self._activations(),
                windows=PackageWindows(card.context_window_size, card.prefill_chunk_size),
                threads=self._shop.host().physical_cores,
                progress=self._shop.progress,
            )
        finally:
            reader.close()

    def _check(self, folder: Path) -> None:
        from edge_router.store.tensor_index import records

        with self._shop.progress.step("verify"):
            records(folder, hashes=True)

    def _check_supported(self) -> None:
        """Architecture, format, disk space and tools, before anything is fetched or minutes are spent."""
        from edge_router.compile.targets import check_layers
        from edge_router.compile.weights.parameters import parameters
        from edge_router.compile.weights.quantize import check_groups, stored_bytes, supported
        from edge_router.compile.weights.quantizers import check_quantizer

        form, card = supported(self.recipe.quantization), self.recipe.card
        check_quantizer(self.recipe.quantizer)
        check_tools(self.recipe)
        if self.recipe.target == PROGRAM:
            from edge_router.compile.webgpu.build import check_quantization

            check_quantization(form.name)
        if card.config:
            if self.recipe.target != MLC:
                check_layers(self.recipe.target.partition(":")[0], str(card.config.get("model_type")))
            self._check_windows()
            wanted = parameters(card.config, card.name)
            check_groups(form, wanted, card.name, 8 if self.recipe.target == "llvm" else 32)
            needed = sum(stored_bytes(form, parameter) for parameter in wanted)
            require_space(self._shop.paths.artifacts, needed + _SPARE_BYTES)

    def _check_windows(self) -> None:
        """Raises `ConfigError` for a sliding window that what makes the library would drop."""
        from edge_router.compile.mlc import check_sliding, runs_ours
        from edge_router.mlc_python import mlc_python

        recipe, numbers = self.recipe, self.recipe.card.config
        if recipe.target == MLC and not runs_ours(recipe, numbers, mlc_python(recipe.mlc_python)):
            check_sliding(recipe, str(numbers.get("model_type")))

    def _moments_hash(self) -> str | None:
        raw = self._moments_bytes()
        return None if raw is None else hashlib.sha256(raw).hexdigest()

    def _activations(self) -> Activations:
        from edge_router.compile.weights.equalize import Activations
        from edge_router.compile.weights.moments import read_activations

        raw = self._moments_bytes()
        return Activations() if raw is None else read_activations(raw)

    def _moments_bytes(self) -> bytes | None:
        """The file beside the card; other ways of quantizing have no use for it."""
        name = self.recipe.card.moments
        if name is None or self.recipe.quantizer not in MEASURED:
            return None
        from importlib.resources import files

        file = files("edge_router.models") / "cards" / name
        if not file.is_file():
            raise InvalidModel(self.recipe.card.name, f"its card names {name}, which is not there")
        return file.read_bytes()


def _pinned(source: Source) -> dict[str, object] | None:
    """What says all about a source without looking at it; None where only its content does."""
    if isinstance(source, PypiSource):
        return {"wheel": source.sha256, "member": source.member}
    return None
