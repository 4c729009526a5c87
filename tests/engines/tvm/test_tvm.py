"""The compiled model as a runner: what it computes, held against the reference, and what can go wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.chat.message import Message
from edge_router.compile import link
from edge_router.engines.tvm import runtime as tvm_runtime
from edge_router.engines.tvm.cache import PAGE_SIZE, PagedCache
from edge_router.engines.tvm.device import CPU, Device
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.errors import (
    ArtifactCorrupt,
    EngineUnavailable,
    GenerationFailed,
    InvalidModel,
    OutOfMemory,
)
from edge_router.prompts.directory import ModelDirectory

CLOSE = 0.3  # logits in float16 against float32; their standard deviation is about 7
TIE = 0.05  # two tokens this close are equally likely for float16
PROMPTS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explain why the sky is blue.",
    "How do I boil an egg?",
    "What is 12 times 11?",
    "What is photosynthesis?",
    "Why do cats purr?",
    "Translate good morning to Spanish.",
)


@pytest.fixture(scope="module")
def runner(batch_model: Any) -> Iterator[TvmRunner]:
    made = TvmRunner(batch_model.model_dir, batch_model.library, max_sequences=4, context_window_size=512)
    yield made
    made.close()


@pytest.fixture
def empty(runner: TvmRunner) -> TvmRunner:
    """The same one, without any sequence."""
    runner.reset()
    return runner


@pytest.fixture(scope="module")
def prompts(batch_model: Any) -> list[list[int]]:
    directory = ModelDirectory.read(batch_model.model_dir, "m")
    assert directory.template is not None
    return [
        directory.tokenizer.encode(directory.template.render([Message("user", text)])) for text in PROMPTS
    ]


def read(runner: TvmRunner, sequence: int, tokens: Sequence[int]) -> np.ndarray:
    """Append `tokens` chunk by chunk; a copy of the last logits."""
    for start in range(0, len(tokens), runner.prefill_chunk_size):
        logits = runner.prefill(sequence, tokens[start : start + runner.prefill_chunk_size])
    return logits.copy()


def afresh(runner: TvmRunner, tokens: Sequence[int]) -> np.ndarray:
    runner.add_sequence(10_000)
    logits = read(runner, 10_000, tokens)
    runner.remove_sequence(10_000)
    return logits


def test_greedy_decoding_is_the_references(
    empty: TvmRunner,
    prompts: list[list[int]],
    batch_model: Any,
    reference_llama: Callable[[Path], Any],
) -> None:
    reference = reference_llama(batch_model.model_dir)
    exact = []
    for number, prompt in enumerate(prompts):
        empty.add_sequence(number)
        logits, answer = read(empty, number, prompt), list[int]()
        while len(answer) < 48:
            answer.append(int(logits.argmax()))
            logits = empty.decode([number], answer[-1:])[0]
        empty.remove_sequence(number)
        shortfalls = reference.shortfalls(prompt, answer)
        assert shortfalls.max() < TIE, PROMPTS[number]
        exact.append(not shortfalls.any())
    assert sum(exact) >= 5, exact  # 48 of 48 tokens; the others had ties to break


def test_logits_are_the_references(
    empty: TvmRunner, prompts: list[list[int]], batch_model: Any, reference_llama: Callable[[Path], Any]
) -> None:
    tokens = prompts[0]
    wanted = reference_llama(batch_model.model_dir).logits(tokens)
    empty.add_sequence(0)
    assert np.abs(read(empty, 0, tokens[:9]) - wanted[8]).max() < CLOSE
    for position in range(9, 20):
        row = empty.decode([0], [tokens[position]])[0]
        assert row.shape == (empty.vocab_size,) and row.dtype == np.float32
        assert np.abs(row - wanted[position]).max() < CLOSE


def test_a_prompt_may_come_in_chunks_of_any_size(empty: TvmRunner, prompts: list[list[int]]) -> None:
    tokens = [token for prompt in prompts for token in prompt][:70]
    whole = afresh(empty, tokens)
    for size in (1, 7, 16, 64):
        empty.add_sequence(0)
        for start in range(0, len(tokens), size):
            logits = empty.prefill(0, tokens[start : start + size])
        assert np.abs(logits - whole).max() < CLOSE, size
        empty.remove_sequence(0)


def test_a_batch_computes_what_each_would_alone(empty: TvmRunner, prompts: list[list[int]]) -> None:
    for number, prompt in enumerate(prompts[:4]):
        empty.add_sequence(number)
        read(empty, number, prompt)
    tokens = [prompt[3] for prompt in prompts[:4]]
    together = empty.decode(range(4), tokens).copy()
    assert together.shape == (4, empty.vocab_size)
    for number, prompt in enumerate(prompts[:4]):
        assert np.abs(together[number] - afresh(empty, [*prompt, tokens[number]])).max() < CLOSE


def test_forks_and_pops_compute_as_if_everything_were_new(empty: TvmRunner, prompts: list[list[int]]) -> None:
    words = [token for prompt in prompts for token in prompt]
    chance = random.Random(3)
    held: dict[int, list[int]] = {}
    for step in range(30):
        parents = [number for number, tokens in held.items() if len(tokens) > 1]
        action = chance.choice(["add", "fork", "fork", "pop", "remove"])
        if action == "add" or not parents:
            empty.add_sequence(step)
            held[step] = []
            chosen = step
        elif action == "fork":
            parent = chance.choice(parents)
            position = chance.randint(1, len(held[parent]) - 1)
            empty.fork_sequence(parent, step, position)
            held[step] = held[parent][:position]
            chosen = step
        elif action == "pop":
            chosen = chance.choice(parents)
            count = chance.randint(1, len(held[chosen]) - 1)
            empty.pop_tokens(chosen, count)
            del held[chosen][-count:]
        else:
            chosen = chance.choice(parents)
            empty.remove_sequence(chosen)
            del held[chosen]
            continue
        more = chance.sample(words, chance.randint(1, 40))
        held[chosen] += more
        logits = read(empty, chosen, more)
        assert np.abs(logits - afresh(empty, held[chosen])).max() < CLOSE, (step, action)
        if len(held) > 6:
            empty.remove_sequence(next(iter(held)))
            del held[next(iter(held))]


def test_pages_are_counted(empty: TvmRunner, prompts: list[list[int]]) -> None:
    free = empty.free_tokens
    assert free >= 4 * 512 and free % PAGE_SIZE == 0
    empty.add_sequence(0)
    read(empty, 0, (prompts[0] * 3)[:33])
    assert free - empty.free_tokens == 3 * PAGE_SIZE
    empty.fork_sequence(0, 1, 20)
    read(empty, 1, prompts[1][:10])
    assert free - empty.free_tokens == 4 * PAGE_SIZE  # one whole page is shared
    empty.remove_sequence(0)
    assert free - empty.free_tokens == 2 * PAGE_SIZE
    empty.reset()
    assert empty.free_tokens == free


def test_a_context_can_be_filled_to_its_end(batch_model: Any, prompts: list[list[int]]) -> None:
    small = TvmRunner(
        batch_model.model_dir, batch_model.library, context_window_size=64, prefill_chunk_size=48
    )
    assert (small.context_window_size, small.prefill_chunk_size, small.max_sequences) == (64, 48, 1)
    tokens = (prompts[0] * 4)[:64]
    small.add_sequence(0)
    read(small, 0, tokens[:50])
    for token in tokens[50:]:
        logits = small.decode([0], [token])[0].copy()
    small.remove_sequence(0)
    assert np.abs(logits - afresh(small, tokens)).max() < CLOSE
    small.close()


def test_an_interrupted_pass_is_forgotten_by_a_reset(empty: TvmRunner, prompts: list[list[int]]) -> None:
    wanted = afresh(empty, prompts[0])
    empty.add_sequence(0)
    with pytest.raises(ZeroDivisionError):
        empty._cache._run(lambda *args: 1 / 0, 1, prompts[0][:5])
    empty.reset()
    assert np.array_equal(afresh(empty, prompts[0]), wanted)


def test_sizes_are_cut_to_what_was_compiled(batch_model: Any) -> None:
    made = TvmRunner(
        batch_model.model_dir,
        batch_model.library,
        context_window_size=10**6,
        prefill_chunk_size=10**6,
        max_sequences=10**3,
    )
    plain = TvmRunner(batch_model.model_dir, batch_model.library)
    assert made.context_window_size == plain.context_window_size < 10**6
    assert made.prefill_chunk_size == plain.prefill_chunk_size < 10**6
    assert 1 <= made.max_sequences < 10**3
    made.close()
    plain.close()


def test_the_number_of_threads_changes_nothing_but_the_time(
    batch_model: Any, prompts: list[list[int]]
) -> None:
    found = []
    for threads in (1, 2, 3):
        made = TvmRunner(batch_model.model_dir, batch_model.library, context_window_size=128, threads=threads)
        found.append(afresh(made, prompts[0]))
        made.close()
    assert np.abs(found[0] - found[1]).max() < CLOSE
    assert np.abs(found[0] - found[2]).max() < CLOSE


# ---- what can go wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + bytes(200)])
def test_a_file_that_is_no_library_is_a_corrupt_artifact(
    batch_model: Any, tmp_path: Path, content: bytes
) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"library\.so"):
        TvmRunner(batch_model.model_dir, library)


def test_a_missing_library_is_a_corrupt_artifact(batch_model: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt):
        TvmRunner(batch_model.model_dir, tmp_path / "nowhere.so")


def test_a_library_without_what_a_chat_needs_is_a_corrupt_artifact(
    batch_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        """A real one, of which something is hidden."""

        lacks: str | None = "batch_decode"

        def __init__(self, *where: Any) -> None:
            self.machine = load(*where)

        def __getitem__(self, name: str) -> Any:
            return (lambda: json.dumps({})) if name == "_metadata" else self.machine[name]

        def implements_function(self, name: str, query_imports: bool) -> bool:
            return name != self.lacks

    load = link.load_library
    monkeypatch.setattr(link, "load_library", Library)
    with pytest.raises(ArtifactCorrupt, match="batch_decode"):
        TvmRunner(batch_model.model_dir, batch_model.library)
    monkeypatch.setattr(Library, "lacks", None)
    with pytest.raises(ArtifactCorrupt, match="active_vocab_size"):
        TvmRunner(batch_model.model_dir, batch_model.library)


ODD_ENTRIES = {
    "beyond the shard": {"byteOffset": 2**40},
    "before the shard": {"byteOffset": -64},
    "more bytes": {"nbytes": 2**40},
    "fewer bytes": {"nbytes": 1},
    "another shape": {"shape": [2**20, 2**20]},
    "a negative shape": {"shape": [-1]},
    "another type": {"dtype": "int8"},
    "no type": {"dtype": "complex7"},
    "another form": {"format": "zip"},
    "a number for a name": {"name": 7},
    "a text for an offset": {"byteOffset": "0"},
}


@pytest.mark.parametrize("odd", ODD_ENTRIES)
def test_an_index_that_contradicts_its_shards_is_told_before_anything_is_loaded(
    batch_model: Any, tmp_path: Path, odd: str
) -> None:
    """Some of these would end the process in TVM's loader."""
    folder = tmp_path / "model"
    shutil.copytree(batch_model.model_dir, folder)
    file = folder / "tensor-cache.json"
    index = json.loads(file.read_text())
    index["records"][0]["records"][0] |= ODD_ENTRIES[odd]
    file.write_text(json.dumps(index))
    with pytest.raises((ArtifactCorrupt, InvalidModel), match="the weights don't fit the library"):
        TvmRunner(folder, batch_model.library)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("damage", ["no index", "no shard", "short shard", "another name"])
def test_weights_that_do_not_fit_are_a_corrupt_artifact_or_a_users_own_model(
    batch_model: Any, tmp_path: Path, damage: str, ours: bool
) -> None:
    """Who is told to remove what was built must have built it."""
    folder = tmp_path / "model"
    shutil.copytree(batch_model.model_dir, folder)
    index, shard = folder / "tensor-cache.json", next(folder.glob("params_shard_*.bin"))
    if damage == "no index":
        index.unlink()
    elif damage == "no shard":
        shard.unlink()
    elif damage == "short shard":
        shard.write_bytes(shard.read_bytes()[:1000])
    else:
        index.write_text(index.read_text().replace("model.norm.weight", "model.other.weight"))
    (folder / "manifest.json").touch()
    if not ours:
        (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactCorrupt if ours else InvalidModel, match="weights") as caught:
        TvmRunner(folder, batch_model.library)
    assert caught.value.about == (None if ours else str(folder))


def test_a_kv_cache_that_cannot_be_made(batch_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [MemoryError("std::bad_alloc"), RuntimeError("five arguments")]

    def failing(self: PagedCache, *arguments: Any) -> None:
        raise failures.pop(0)

    monkeypatch.setattr(PagedCache, "__init__", failing)
    with pytest.raises(OutOfMemory, match="KV cache") as caught:
        TvmRunner(batch_model.model_dir, batch_model.library, context_window_size=128)
    layers, heads, width, key_and_value, float16 = 30, 3, 64, 2, 2
    assert caught.value.needed == 128 * layers * heads * width * key_and_value * float16
    with pytest.raises(ArtifactCorrupt, match="five arguments"):
        TvmRunner(batch_model.model_dir, batch_model.library)


@pytest.mark.integration
def test_without_tvm_the_engine_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    tvm_runtime._library.cache_clear()
    monkeypatch.setattr(tvm_runtime, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="apache-tvm is not installed"):
        tvm_runtime.load_runtime()
    tvm_runtime._library.cache_clear()


@pytest.mark.integration
def test_where_the_symbol_is_missing_the_environment_says_how_many_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    monkeypatch.setattr(tvm_runtime, "_SET_CONCURRENCY", "no_such_symbol")
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    monkeypatch.setenv("TVM_BIND_THREADS", "1")
    tvm_runtime.use_threads(2)
    assert os.environ["TVM_NUM_THREADS"] == "2"
    assert os.environ["TVM_BIND_THREADS"] == "1"  # the user's own


THREADS_OF_KERNELS = """
import threading
import time
from pathlib import Path
from edge_router.engines.tvm import runtime as tvm_runtime

def work():
    tvm_runtime.load_runtime()
    for wanted in (3, 2):  # given back and made anew, as when a model comes back
        tvm_runtime.use_threads(wanted)
        tvm_runtime.end_threads()

for _ in range(6):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    time.sleep(0.3)  # a thread that was ended takes its time to go
    print(len(list(Path("/proc/self/task").iterdir())), end=" ")
"""


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux counts native threads in a folder"
)
@pytest.mark.integration
def test_threads_of_kernels_end_with_the_thread_that_called_them() -> None:
    """In a process of its own: here other tests' threads come and go."""
    code = [sys.executable, "-c", THREADS_OF_KERNELS]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    counts = [int(word) for word in done.stdout.split()]
    assert max(counts[2:]) <= max(counts[:2]), counts  # without end_threads each would leave two for good


REST_AFTER_KERNELS = """
import time
from edge_router.engines.tvm import runtime as tvm_runtime

tvm_runtime.load_runtime()
tvm_runtime.use_threads(3)
before = time.process_time()
time.sleep(1)
print(time.process_time() - before)
"""


@pytest.mark.integration
def test_threads_without_work_soon_sleep_unless_the_user_says_otherwise() -> None:
    """By the processor's time, of which a busy machine takes nothing."""
    name = "TVM_THREAD_POOL_SPIN_COUNT"
    plain = {key: value for key, value in os.environ.items() if key != name}
    spent = [
        float(subprocess.check_output([sys.executable, "-c", REST_AFTER_KERNELS], env=environ, text=True))
        for environ in (plain, {**plain, name: "600000"})
    ]
    assert spent[0] < spent[1] / 4, spent


@pytest.mark.integration
def test_without_the_symbols_threads_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm_runtime, "_RESET_THREADS", "no_such_symbol")
    tvm_runtime.use_threads(2)
    monkeypatch.setattr(tvm_runtime, "_SET_CONCURRENCY", "no_such_symbol")
    tvm_runtime.end_threads()


SAID = [
    ("CUDALaunch Error: CUDA_ERROR_ILLEGAL_ADDRESS\n// func_name=kernel\n" + "x" * 100_000, GenerationFailed),
    ("y" * 100_000, GenerationFailed),
    ("CUDALaunch Error: CUDA_ERROR_OUT_OF_MEMORY\n" + "x" * 100_000, OutOfMemory),
    ("CUDA: out of memory", OutOfMemory),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_what_a_failing_gpu_says_is_told_without_the_module_it_ran(said: str, kind: type[Exception]) -> None:
    runner = TvmRunner.__new__(TvmRunner)
    runner._device = Device("cuda", 2)

    def fails() -> None:
        raise RuntimeError(said)

    with pytest.raises(kind) as caught:
        runner._rows(fails, 1)
    told = str(caught.value)
    assert len(told) < 500
    assert "xxx" not in told
    assert kind is OutOfMemory or said[:40] in told


@pytest.mark.parametrize(("name", "overlaps"), [(CPU, False), ("cuda", True), ("metal", True)])
def test_only_a_gpu_computes_beside_the_processor(name: str, overlaps: bool) -> None:
    runner = TvmRunner.__new__(TvmRunner)
    runner._device = Device(name)
    assert runner.overlaps is overlaps


class Failing:
    """In place of tvm_ffi: every function fails."""

    def get_global_func(self, name: str) -> Callable[[], None]:
        def fails() -> None:
            raise RuntimeError("CUDA Runtime Error: cudaErrorIllegalAddress (700)")

        return fails


@pytest.mark.integration
@pytest.mark.parametrize(("name", "raises"), [(CPU, True), ("cuda", False), ("metal", False)])
def test_a_lost_gpu_can_be_closed(name: str, raises: bool) -> None:
    runner: Any = TvmRunner.__new__(TvmRunner)
    runner._device, runner._ffi = Device(name), Failing()
    runner._cache = runner._parameters = None
    if raises:
        with pytest.raises(RuntimeError):
            runner.close()
    else:
        runner.close()
    assert not hasattr(runner, "_cache")
