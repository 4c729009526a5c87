"""The weak model on TVM's virtual machine, on this machine's processor."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_router.config import Config
from edge_router.device.process import give_back
from edge_router.engines.local.directory import ModelDirectory
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.memory import Residence, is_exhausted
from edge_router.engines.local.runner import Logits
from edge_router.engines.tvm_runtime import load_runtime, use_threads
from edge_router.errors import ArtifactCorrupt, OutOfMemory
from edge_router.paths import Paths
from edge_router.types import Progress, SilentProgress

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel

PAGE_SIZE = 16  # tokens; what MLC's engine uses, too
_CPU = 1  # DLPack's device type
_FUNCTIONS = ("embed", "prefill", "decode", "batch_decode", "create_tir_paged_kv_cache")
_PARAMETERS = threading.Lock()  # TVM passes them through one table for the whole process


def load(config: Config, paths: Paths, progress: Progress) -> LocalEngine:
    """The configured weak model, fetched and built where it is missing and `weak.build` allows that.

    Raises `UnknownModel`, `WeightsError`, `ArtifactError`, `StorageError`, `EngineUnavailable`; `OutOfMemory`
    before anything is loaded where even a short context does not fit into what is free.
    """
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
    )
    engine.weights_key = compiled.weights_key
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
        )

    with (progress or SilentProgress()).step("load"):
        directory = ModelDirectory.read(model_dir, model_id)
        return LocalEngine(
            make,
            name="tvm",
            model_id=model_id,
            tokenizer=directory.tokenizer,
            template=directory.template,
            end_tokens=directory.end_tokens,
            defaults=directory.defaults,
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
    ) -> None:
        self._ffi: Any = load_runtime()
        use_threads(threads)
        self._library = library
        machine, metadata = self._open(library)
        self.vocab_size = metadata.number("active_vocab_size")
        self.context_window_size = _at_most(context_window_size, metadata.number("context_window_size"))
        chunk = _at_most(prefill_chunk_size, metadata.number("prefill_chunk_size"))
        self.prefill_chunk_size = min(chunk, self.context_window_size)
        self.max_sequences = _at_most(max_sequences, metadata.number("max_batch_size"))
        self.page_size = PAGE_SIZE
        self._parameters = self._load_parameters(model_dir, metadata)
        self._cache = self._make_cache(machine, metadata)
        self._embed, self._prefill, self._decode, self._batch_decode, _ = (
            machine[name] for name in _FUNCTIONS
        )
        function = self._ffi.get_global_func
        self._add, self._remove, self._fork, self._pop, self._begin, self._end, self._clear = (
            function(f"vm.builtin.kv_state_{name}")
            for name in (
                *("add_sequence", "remove_sequence", "fork_sequence", "popn"),
                *("begin_forward", "end_forward", "clear"),
            )
        )
        self._free_pages = function("vm.builtin.attention_kv_cache_get_num_available_pages")
        self._reshape = function("vm.builtin.reshape")
        self._ids = _aligned_ids(max(self.prefill_chunk_size, self.max_sequences))

    @property
    def free_tokens(self) -> int:
        return int(self._free_pages(self._cache)) * PAGE_SIZE

    def add_sequence(self, sequence: int) -> None:
        self._add(self._cache, sequence)

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        self._fork(self._cache, parent, child, position)

    def pop_tokens(self, sequence: int, count: int) -> None:
        self._pop(self._cache, sequence, count)

    def remove_sequence(self, sequence: int) -> None:
        self._remove(self._cache, sequence)

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Logits:
        logits: Logits = self._run(self._prefill, [sequence], [len(tokens)], tokens)[0]
        return logits

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Logits:
        run = self._decode if len(sequences) == 1 else self._batch_decode
        return self._run(run, sequences, [1] * len(sequences), tokens)

    def reset(self) -> None:
        self._clear(self._cache)

    def close(self) -> None:
        """Release the memory. The library itself stays loaded: TVM can't tell when nobody needs it."""
        del self._embed, self._prefill, self._decode, self._batch_decode, self._cache, self._parameters
        self._ffi.get_global_func("vm.builtin.memory_manager.clear")()
        give_back()

    def _run(
        self, function: Any, sequences: Sequence[int], lengths: Sequence[int], tokens: Sequence[int]
    ) -> Logits:
        """One forward pass; logits of each sequence's last token, shape (len(sequences), vocab_size)."""
        try:
            return self._forward(function, sequences, lengths, tokens)
        except Exception as error:
            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for what a forward pass computes") from error
            raise

    def _forward(
        self, function: Any, sequences: Sequence[int], lengths: Sequence[int], tokens: Sequence[int]
    ) -> Logits:
        shape = self._ffi.Shape
        ids = self._ids[: len(tokens)]
        ids[:] = tokens
        embedded = self._embed(self._ffi.from_dlpack(ids), self._parameters)
        hidden = embedded.shape[-1]
        embedded = self._reshape(embedded, shape((len(sequences), len(tokens) // len(sequences), hidden)))
        self._begin(self._cache, shape(sequences), shape(lengths))
        logits: Any = np.from_dlpack(function(embedded, self._cache, self._parameters)[0])
        self._end(self._cache)
        rows: Logits = logits.reshape(len(sequences), -1)[:, : self.vocab_size]
        return rows

    # ---- loading -------------------------------------------------------------------------------------------

    def _open(self, library: Path) -> tuple[Any, _Metadata]:
        """The virtual machine, and what the library says of itself, which only the machine can be asked."""
        from edge_router.compile.link import load_library

        try:
            machine = load_library(library)
        except ArtifactCorrupt as error:
            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for the compiled library") from error
            raise
        for name in (*_FUNCTIONS, "_metadata"):
            if not machine.implements_function(name, True):
                raise ArtifactCorrupt(library, f"has no function {name}")
        return machine, _Metadata(library, json.loads(machine["_metadata"]()))

    def _load_parameters(self, model_dir: Path, metadata: _Metadata) -> Any:
        function = self._ffi.get_global_func
        try:
            with _PARAMETERS:
                try:
                    give_back()  # what making the tokenizer has left
                    function("vm.builtin.tensor_cache.load")(str(model_dir), _CPU, 0)
                    return function("vm.builtin.param_array_from_cache_by_name")(metadata.parameters())
                finally:
                    function("vm.builtin.tensor_cache.clear")()
                    give_back()  # the file's buffer
        except Exception as error:
            if is_exhausted(error):
                raise OutOfMemory("tvm", "no room for the weights") from error
            raise ArtifactCorrupt(model_dir, f"the weights don't fit the library: {error}") from error

    def _make_cache(self, machine: Any, metadata: _Metadata) -> Any:
        shape = self._ffi.Shape
        pages = -(-self.context_window_size // PAGE_SIZE) * self.max_sequences
        sizes = (self.max_sequences, pages * PAGE_SIZE, self.prefill_chunk_size, PAGE_SIZE, 0)
        try:
            return machine["create_tir_paged_kv_cache"](*(shape((size,)) for size in sizes))
        except Exception as error:
            if not is_exhausted(error):
                raise ArtifactCorrupt(self._library, f"its KV cache cannot be made: {error}") from error
            needed = pages * PAGE_SIZE * metadata.kv_bytes_per_token()
            raise OutOfMemory("tvm", "no room for the KV cache", needed) from error


class _Metadata:
    """What a library says of itself. Raises `ArtifactCorrupt` for what is missing."""

    def __init__(self, library: Path, values: object) -> None:
        self._library = library
        self._values: Mapping[str, Any] = values if isinstance(values, dict) else {}

    def number(self, name: str) -> int:
        value = self._values.get(name)
        if not isinstance(value, int):
            raise ArtifactCorrupt(self._library, f"its metadata has no {name}")
        return value

    def parameters(self) -> list[str]:
        return [entry["name"] for entry in self._values.get("params", ())]

    def kv_bytes_per_token(self) -> int:
        sizes = self._values.get("kv_cache", {})
        heads, width = sizes.get("num_key_value_heads", 0), sizes.get("head_dim", 0)
        keys_and_values, float16 = 2, 2
        return int(keys_and_values * sizes.get("num_hidden_layers", 0) * heads * width * float16)


def _at_most(wanted: int | None, limit: int) -> int:
    return limit if wanted is None else min(wanted, limit)


def _aligned_ids(count: int) -> npt.NDArray[np.int32]:
    """TVM wants buffers to begin at a multiple of 64 bytes, numpy promises 16."""
    raw = np.zeros(count * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * 4].view(np.int32)
