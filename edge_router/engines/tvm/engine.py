"""The weak model on TVM's virtual machine, on this machine's processor or a GPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_router.config.settings import Config
from edge_router.device.process import give_back
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.runner import Logits, is_exhausted
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.local.settings import settle
from edge_router.engines.tvm.cache import PAGE_SIZE, PagedCache, RuntimeCache, Sizes
from edge_router.engines.tvm.device import CPU, loading, open_device
from edge_router.engines.tvm.memory import Residence
from edge_router.engines.tvm.metadata import Metadata
from edge_router.engines.tvm.runtime import end_threads, load_runtime, use_threads
from edge_router.errors import (
    ArtifactCorrupt,
    EdgeRouterError,
    GenerationFailed,
    InvalidModel,
    OutOfMemory,
    WeightsCorrupt,
    is_mistake,
)
from edge_router.parsing import strict_json
from edge_router.prompts.directory import ModelDirectory
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress
from edge_router.vram.fitting import check_possible

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel

EXACT_ROWS = 8  # of one product are each computed as if they were alone; see compile/kernels/linear.py
_MOST_TOLD = 300  # characters of what a driver says
_PARAMETERS = threading.Lock()  # TVM passes them through one table for the whole process


def load(config: Config, paths: Paths, progress: Progress) -> LocalEngine:
    """The configured weak model, fetched and built where it is missing and `weak.build` allows that.

    Raises `UnknownModel`, `WeightsError`, `ArtifactError`, `StorageError`, `EngineUnavailable`; `OutOfMemory`
    before anything is loaded where even a short context does not fit into what is free.
    """
    device = open_device(config.weak.device)  # which takes no minutes, as building might
    compiled = built(config, paths, progress)
    threads = thread_count(config, paths)
    name = compiled.card.name
    residence = Residence(name, compiled.config, compiled.library, config, paths, progress, threads=threads)
    engine = open_model(
        compiled.model_dir,
        compiled.library,
        model_id=name,
        threads=threads,
        progress=progress,
        residence=residence,
        device=f"{device.name}:{device.number}",
        speculation=config.weak.speculation,
    )
    settle(engine, compiled, config, paths, progress)
    return engine


def built(config: Config, paths: Paths, progress: Progress) -> CompiledModel:
    """The configured model's directory and library."""
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure

    card = find_model(config.weak.model)
    return ensure(
        card,
        BuildSettings.from_config(config),
        paths=paths,
        progress=progress,
        build=config.weak.build,
        offline=config.offline,
        before=lambda: check_possible(config, card, paths),
    )


def thread_count(config: Config, paths: Paths) -> int:
    """As configured, else as TVM's own variable says, else the physical cores."""
    from edge_router.device import host

    asked = os.environ.get("TVM_NUM_THREADS", "")
    own = int(asked) if asked.isascii() and asked.isdigit() else 0
    return config.weak.threads or own or host(paths.artifacts / "host.json").physical_cores


def open_model(
    model_dir: Path,
    library: Path,
    *,
    model_id: str,
    threads: int,
    context_window_size: int | None = None,
    prefill_chunk_size: int | None = None,
    max_sequences: int = 1,
    progress: Progress | None = None,
    residence: Residence | None = None,
    device: str = CPU,
    speculation: bool = True,
) -> LocalEngine:
    """An engine for an MLC model directory and the library that was compiled for it.

    Sizes are in tokens; None means as the library was compiled. With a `residence` they are as it plans them,
    each time the model is loaded. Raises `InvalidModel`, `ArtifactCorrupt`, `EngineUnavailable`,
    `OutOfMemory`, `TemplateError`.
    """
    given = (context_window_size, prefill_chunk_size, max_sequences)

    def make() -> TvmRunner:
        sizes = given
        if residence is not None:
            settings = residence.settings()
            sizes = settings.context_window_size, settings.prefill_chunk_size, settings.max_sequences
        return TvmRunner(
            model_dir,
            library,
            context_window_size=sizes[0],
            prefill_chunk_size=sizes[1],
            max_sequences=sizes[2],
            threads=threads,
            device=device,
            speculation=speculation,
        )

    with (progress or SilentProgress()).step("load"):
        directory = ModelDirectory.read(model_dir, model_id)
        return LocalEngine(
            make,
            name="tvm",
            model_id=model_id,
            tokenizer=directory.tokenizer,
            template=directory.template,
            answers=directory.answers,
            end_tokens=directory.end_tokens,
            defaults=SamplingDefaults.from_config(directory.config),
            rest=residence.rest if residence is not None else None,
            plan=lambda: residence.plan if residence is not None else None,
        )


class TvmRunner:
    """A compiled library and its weights: a `ModelRunner`. Make, use and close it in one thread.

    Sizes beyond what the library was compiled for are cut to that. The KV cache holds `max_sequences` whole
    contexts. Raises `ArtifactCorrupt`, `EngineUnavailable`, `OutOfMemory`.
    """

    def __init__(
        self,
        model_dir: Path,
        library: Path,
        *,
        context_window_size: int | None = None,
        prefill_chunk_size: int | None = None,
        max_sequences: int = 1,
        threads: int = 1,
        device: str = CPU,
        speculation: bool = True,
    ) -> None:
        self._speculates = speculation
        self._ffi: Any = load_runtime()
        self._device = open_device(device)
        self._library = library
        use_threads(threads)
        try:
            self._load(model_dir, library, context_window_size, prefill_chunk_size, max_sequences)
        except BaseException:
            end_threads()
            raise

    def _load(
        self,
        model_dir: Path,
        library: Path,
        context_window_size: int | None,
        prefill_chunk_size: int | None,
        max_sequences: int,
    ) -> None:
        machine, metadata = self._open(library)
        self.vocab_size = metadata.number("active_vocab_size")
        self.context_window_size = _at_most(context_window_size, metadata.number("context_window_size"))
        chunk = _at_most(prefill_chunk_size, metadata.number("prefill_chunk_size"))
        self.prefill_chunk_size = min(chunk, self.context_window_size)
        self.max_sequences = _at_most(max_sequences, metadata.number("max_batch_size"))
        self.page_size = PAGE_SIZE
        self._parameters = self._load_parameters(model_dir, metadata)
        self._cache = self._make_cache(machine, metadata)
        paged = self._cache if isinstance(self._cache, PagedCache) else None
        self._ahead = min(paged.ahead, EXACT_ROWS) if paged is not None and self._speculates else 1
        states = paged.states if paged is not None else None
        self._kept = states.spare if states is not None else None

    @property
    def free_tokens(self) -> int:
        return self._cache.free_tokens

    def add_sequence(self, sequence: int) -> None:
        self._cache.add(sequence)

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        self._cache.fork(parent, child, position)

    def pop_tokens(self, sequence: int, count: int) -> None:
        self._cache.pop(sequence, count)

    def remove_sequence(self, sequence: int) -> None:
        self._cache.remove(sequence)

    def holds(self, sequence: int, position: int) -> bool:
        return self._cache.holds(sequence, position)

    def reach(self, sequence: int, position: int) -> int:
        return self._cache.reach(sequence, position)

    @property
    def most_kept(self) -> int | None:
        return self._kept

    def new_pages(self, sequence: int, length: int, count: int) -> int:
        return self._cache.new_pages(sequence, length, count)

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Logits:
        logits: Logits = self._rows(lambda: self._cache.prefill(sequence, tokens), 1)[0]
        return logits

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Logits:
        return self._rows(lambda: self._cache.decode(sequences, tokens), len(sequences))

    @property
    def together(self) -> int:
        return self._cache.together

    def prefill_many(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        return self._rows(lambda: self._cache.prefill_many(sequences, tokens), len(sequences))

    @property
    def ahead(self) -> int:
        return self._ahead

    def verify(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Logits:
        assert isinstance(self._cache, PagedCache)
        cache = self._cache
        return self._rows(lambda: cache.verify(sequences, tokens), sum(map(len, tokens)))

    @property
    def saving(self) -> PagedCache | None:
        return self._cache if isinstance(self._cache, PagedCache) else None

    @property
    def overlaps(self) -> bool:
        return self._device.name != CPU

    def decode_while(
        self, sequences: Sequence[int], tokens: Sequence[int], meanwhile: Callable[[], None]
    ) -> Logits:
        def run() -> Any:
            logits = self._cache.decode(sequences, tokens)  # on a GPU it has only begun
            meanwhile()
            return logits

        return self._rows(run, len(sequences))

    def reset(self) -> None:
        self._cache.clear()

    def close(self) -> None:
        """Release memory and threads. The library stays loaded: TVM can't tell when nobody needs it."""
        del self._cache, self._parameters
        try:
            self._ffi.get_global_func("vm.builtin.memory_manager.clear")()
        except RuntimeError as error:
            if self._device.name == CPU or is_mistake(error):
                raise  # a GPU that is lost takes nothing back, and holds nothing
        end_threads()
        give_back()

    def _rows(self, run: Callable[[], Any], count: int) -> Logits:
        """One forward pass; logits of each sequence's last token, shape (count, vocab_size)."""
        try:
            logits = self._device.get(run())
        except Exception as error:
            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for what a forward pass computes") from error
            if self._device.name != CPU and isinstance(error, RuntimeError) and not is_mistake(error):
                # It may be gone. TVM adds the whole module's source to what it says.
                told = str(error).partition("\n")[0][:_MOST_TOLD]
                raise GenerationFailed("tvm", f"the GPU fails: {told}") from error
            raise
        rows: Logits = logits.reshape(count, -1)[:, : self.vocab_size]
        return rows

    # ---- loading -------------------------------------------------------------------------------------------

    def _open(self, library: Path) -> tuple[Any, Metadata]:
        """The virtual machine, and what the library says of itself, which only the machine can be asked."""
        from edge_router.compile.link import load_library

        try:
            with loading(self._device):
                machine = load_library(library, self._device.kind, self._device.number)
        except ArtifactCorrupt as error:
            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for the compiled library") from error
            raise
        if not machine.implements_function("_metadata", True):
            raise ArtifactCorrupt(library, "has no function _metadata")
        metadata = Metadata(library, strict_json.parse_object(machine["_metadata"]()))
        for name in PagedCache.functions if metadata.pages else RuntimeCache.functions:
            if not machine.implements_function(name, True):
                raise ArtifactCorrupt(library, f"has no function {name}")
        return machine, metadata

    def _load_parameters(self, model_dir: Path, metadata: Metadata) -> Any:
        from edge_router.store.tensor_index import check_parameters

        asked = metadata.parameters()
        try:
            check_parameters(model_dir, asked)  # what TVM's loader believes without a look
        except (InvalidModel, WeightsCorrupt) as error:
            raise _unfitting(model_dir, error) from error
        names = [entry["name"] for entry in asked]
        function = self._ffi.get_global_func
        try:
            with _PARAMETERS:
                try:
                    give_back()  # what making the tokenizer has left
                    function("vm.builtin.tensor_cache.load")(
                        str(model_dir), self._device.kind, self._device.number
                    )
                    return function("vm.builtin.param_array_from_cache_by_name")(names)
                finally:
                    function("vm.builtin.tensor_cache.clear")()
                    give_back()  # the file's buffer
        except Exception as error:
            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for the weights") from error
            if is_mistake(error):
                raise
            raise _unfitting(model_dir, error) from error

    def _make_cache(self, machine: Any, metadata: Metadata) -> RuntimeCache | PagedCache:
        together = metadata.number("max_batch_size")
        sizes = Sizes(self.context_window_size, self.prefill_chunk_size, self.max_sequences, together)
        made = (self._ffi, machine, self._parameters, sizes)
        try:
            if metadata.pages is None:
                return RuntimeCache(*made, self._device)
            return PagedCache(*made, metadata.pages, metadata.heads)
        except Exception as error:
            if is_mistake(error):
                raise
            if not is_exhausted(error):
                raise ArtifactCorrupt(self._library, f"its KV cache cannot be made: {error}") from error
            raise OutOfMemory("tvm", "no room for the KV cache", metadata.cache_bytes(sizes)) from error


def _at_most(wanted: int | None, limit: int) -> int:
    return limit if wanted is None else min(wanted, limit)


def _unfitting(model_dir: Path, error: Exception) -> EdgeRouterError:
    """What to raise for weights that can't be loaded: ours are built again, a user's own are not ours."""
    from edge_router.store.manifest import MANIFEST

    reason = f"the weights don't fit the library: {error}"
    if (model_dir / MANIFEST).is_file():
        return ArtifactCorrupt(model_dir, reason)
    unfit = InvalidModel(model_dir, reason)
    unfit.about = str(model_dir)
    return unfit
