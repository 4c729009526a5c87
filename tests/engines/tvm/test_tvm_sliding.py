"""Models that forget what lies before their window: what they say there, and what stays in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.engines.local.scheduling.sequences import SequencePool
from edge_router.engines.tvm.cache import PAGE_SIZE, PagedCache
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.system.paths import Paths

# Of the logits' standard deviation. In 8 bits what is computed a little otherwise may fall on the other side.
CLOSE = {"auto": 0.03, "int8": 0.08}
WINDOW, CHUNK, CONTEXT = 40, 32, 512
Close = Callable[[np.ndarray, np.ndarray], bool]
NUMBERS: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": CONTEXT,
    "vocab_size": 49152,  # as many as the demo model's tokenizer makes
    "tie_word_embeddings": False,
}


@pytest.fixture(
    scope="module", params=[(0, "auto"), (18, "auto"), (18, "int8")], ids="{0[0]} sinks, {0[1]}".format
)
def model(
    request: pytest.FixtureRequest, built_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, int, str]:
    """An MLC directory, its library, how many sinks that has and in what it keeps keys and values."""
    from edge_router.compile.library import compile_library
    from edge_router.compile.link import library_name
    from edge_router.compile.random_model import RandomReader
    from edge_router.compile.targets import host_target
    from edge_router.compile.weights.equalize import Activations
    from edge_router.compile.weights.package import PackageWindows, write_model
    from edge_router.compile.weights.quantize import supported
    from edge_router.device import host

    class Loud(RandomReader):
        """Attention that prefers some tokens to others, so that it matters which are seen."""

        def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
            found = super().rows(name, start, stop)
            return found if found.ndim == 1 else found * np.float32(75 / found.shape[-1] ** 0.5)

    folder = tmp_path_factory.mktemp("sliding")
    write_model(
        Loud(NUMBERS, built_model.model_dir), folder, config=NUMBERS, form=supported("q4f16_1"),
        quantizer="round", activations=Activations(), windows=PackageWindows(CONTEXT, CHUNK, 2),
    )  # fmt: skip
    config = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
    sinks, kept = request.param
    config |= {"sliding_window_size": WINDOW, "attention_sink_size": sinks}
    config["model_config"]["kv_cache"] = kept
    library = folder / library_name()
    compile_library(config, "q4f16_1", host_target(host()), library)
    return folder, library, sinks, kept


@pytest.fixture
def runner(model: tuple[Path, Path, int, str]) -> Iterator[TvmRunner]:
    made = TvmRunner(*model[:2], max_sequences=2)
    yield made
    made.close()


@pytest.fixture
def wanted(model: tuple[Path, Path, int, str], reference_llama: Any) -> Any:
    """wanted(tokens): the last logits of a float32 model with that window and those sinks."""
    reference = reference_llama(model[0], WINDOW, model[2], rounds=model[3] == "int8")

    def logits(tokens: Sequence[int]) -> np.ndarray:
        found: np.ndarray = reference.logits(tokens)[-1]
        return found

    return logits


def text(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, length).tolist()


def read(runner: TvmRunner, sequence: int, tokens: Sequence[int], chunk: int = CHUNK) -> np.ndarray:
    for start in range(0, len(tokens), chunk):
        logits = runner.prefill(sequence, tokens[start : start + chunk])
    return logits.copy()


@pytest.fixture
def close(model: tuple[Path, Path, int, str]) -> Close:
    def is_close(found: np.ndarray, wanted: np.ndarray) -> bool:
        return bool(np.abs(found - wanted[: len(found)]).max() < CLOSE[model[3]] * wanted.std())

    return is_close


@pytest.mark.parametrize("length", [30, WINDOW, WINDOW + 1, 100, 333])
def test_a_prompt_may_be_longer_than_the_window(
    runner: TvmRunner, wanted: Any, close: Close, length: int
) -> None:
    tokens = text(1, length)
    for sequence, chunk in enumerate((CHUNK, 7)):
        runner.add_sequence(sequence)
        assert close(read(runner, sequence, tokens, chunk), wanted(tokens))


def test_an_answer_may_cross_the_edge(runner: TvmRunner, wanted: Any, close: Close) -> None:
    tokens = text(2, 70)
    runner.add_sequence(0)
    read(runner, 0, tokens[:33])
    for at in range(33, len(tokens)):
        assert close(runner.decode([0], [tokens[at]])[0], wanted(tokens[: at + 1])), at


def test_conversations_in_turn_do_not_meet(runner: TvmRunner, wanted: Any, close: Close) -> None:
    first, second = text(3, 120), text(4, 61)
    for sequence, tokens in enumerate((first[:97], second[:38])):
        runner.add_sequence(sequence)
        read(runner, sequence, tokens)
    for step in range(23):
        both = runner.decode([0, 1], [first[97 + step], second[38 + step]])
        assert close(both[0], wanted(first[: 98 + step]))
        assert close(both[1], wanted(second[: 39 + step]))


def test_what_no_token_can_see_any_more_gives_its_pages_back(runner: TvmRunner) -> None:
    cache = runner._cache
    assert isinstance(cache, PagedCache)
    most = -(-cache._sinks // PAGE_SIZE) + -(-(WINDOW - cache._sinks - 1 + CHUNK) // PAGE_SIZE) + 1
    free = runner.free_tokens
    assert free == 2 * most * PAGE_SIZE < 2 * CONTEXT
    tokens = text(5, 500)
    runner.add_sequence(0)
    for start in range(0, 480, CHUNK):
        assert runner.new_pages(0, start, CHUNK) * PAGE_SIZE <= runner.free_tokens - free // 2
        runner.prefill(0, tokens[start : start + CHUNK])
        assert free - runner.free_tokens <= most * PAGE_SIZE
    for token in tokens[480:]:
        runner.decode([0], [token])
    in_sight = WINDOW - cache._sinks
    assert (
        free - runner.free_tokens <= (-(-cache._sinks // PAGE_SIZE) + in_sight // PAGE_SIZE + 2) * PAGE_SIZE
    )
    each = 16 + 2 if cache._memory.dtype == np.int8 else 16 * 2
    assert cache._memory.nbytes == 3 * 2 * most * 2 * 2 * PAGE_SIZE * each
    runner.remove_sequence(0)
    assert runner.free_tokens == free


def test_a_fork_continues_from_what_is_still_there(runner: TvmRunner, wanted: Any, close: Close) -> None:
    tokens, other = text(6, 160), text(7, 50)
    runner.add_sequence(0)
    read(runner, 0, tokens)
    assert runner.holds(0, 150) and not runner.holds(0, 60)
    runner.fork_sequence(0, 1, 150)
    assert close(read(runner, 1, other[:20]), wanted(tokens[:150] + other[:20]))
    assert close(read(runner, 0, other[20:45]), wanted(tokens + other[20:45]))
    runner.pop_tokens(0, 21)
    assert close(read(runner, 0, other[45:]), wanted(tokens + other[20:24] + other[45:]))
    with pytest.raises(ValueError, match="gone"):
        runner.fork_sequence(0, 2, 20)
    with pytest.raises(ValueError, match="gone"):
        runner.pop_tokens(0, 100)


def test_prompts_that_begin_alike_share_what_is_still_there(
    runner: TvmRunner, wanted: Any, close: Close
) -> None:
    pool = SequencePool(runner, kept=16)
    system, story = text(8, 37), text(9, 200)

    def told(tokens: list[int]) -> tuple[Any, int]:
        held = pool.begin(tokens)
        shared = len(held.tokens)
        assert pool.make_room([(held, len(tokens) - shared)])
        rest = tokens[shared:]
        found = read(runner, held.sequence, rest)
        held.tokens += rest
        assert close(found, wanted(tokens))
        return held, shared

    first, shared = told([*system, *story[:20]])
    assert shared == 0
    _, shared = told([*system, *story[100:110]])
    assert shared == 37
    pool.finish(first)
    long, shared = told([*system, *story])
    assert shared == 57
    pool.finish(long)
    _, shared = told([*system, *story, 5])
    assert shared == 237
    _, shared = told([*system, *story[150:160]])
    assert shared == 37  # from the second one: the long one has forgotten it


def test_a_conversation_goes_on_beyond_its_context(built_home: Path) -> None:
    from edge_router import Controller

    settings = {"weak__overflow": "window", "weak__context_window_size": 256, "ledger__enabled": False}
    story = "The sea was calm and the boat was small. " * 60
    with Controller(paths=Paths.under(built_home), offline=True, **settings) as client:
        asked = [{"role": "user", "content": f"{story} What is the capital of France?"}]
        reply = client.chat.completions.create(model="weak", messages=asked, temperature=0, max_tokens=300)
        assert reply.usage.prompt_tokens > 600
        assert "Paris" in reply.choices[0].message.content
        named = client.chat.completions.create(model="weak", messages="Count for ever.", temperature=0)
        assert named.usage.completion_tokens <= 256


def test_what_lies_within_the_window_comes_back_and_what_is_gone_is_not_saved(runner: TvmRunner) -> None:
    pages, tokens, length = runner.saving, text(9, 200), 32
    assert pages is not None
    for sequence in (0, 1):
        runner.add_sequence(sequence)
    runner.prefill(0, tokens[:length])
    saved: list[bytes] = []
    assert pages.has_all(0, length)
    pages.save(0, length, lambda data: saved.append(bytes(data)))
    blocks = iter(saved)

    def read(target: memoryview) -> None:
        target.cast("B")[:] = next(blocks)

    pages.restore(1, length, read)
    for start in range(length, 192, CHUNK):
        one, other = (runner.prefill(each, tokens[start : start + CHUNK]).copy() for each in (0, 1))
        assert np.array_equal(one, other), start
    assert not any(pages.has_all(each, 64) for each in (0, 1))  # 18 sinks keep two pages
    with pytest.raises(MemoryError):
        pages.restore(1, CONTEXT, read)
