"""Models with layers that keep states: against numpy, guessed, forked and taken up at checkpoints."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.architectures.quantization import quantization
from edge_router.chat.events import TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.local.scheduling.branches import Branch, Branches
from edge_router.engines.local.scheduling.sequences import SequencePool
from edge_router.engines.tvm.engine import TvmRunner, open_model
from edge_router.errors import UnsupportedTarget
from edge_router.vram import ModelShape, Place, Settings, backend, estimate, total

CLOSE = 0.03  # of the logits' standard deviation
CHUNK, CONTEXT = 64, 1024
NUMBERS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": CONTEXT,
    "vocab_size": 49152,  # as many as the demo model's tokenizer makes
    "tie_word_embeddings": True,
}
KINDS: dict[str, dict[str, Any]] = {
    "lfm2": {"model_type": "lfm2", "layer_types": ["conv", "full_attention", "conv", "conv"]},
    "granite hybrid": {
        "model_type": "granitemoehybrid",
        "layer_types": ["mamba", "attention", "mamba", "mamba"],
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "residual_multiplier": 0.3,
    },
    "qwen3.5": {
        "model_type": "qwen3_5_text",
        "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
        "partial_rotary_factor": 0.25,
        "head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 32,
    },
}


@pytest.fixture(scope="module", params=list(KINDS))
def folder(
    request: pytest.FixtureRequest, built_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An MLC directory of random weights, and its library."""
    from edge_router.compile.library import check_library, compile_library
    from edge_router.compile.random_model import RandomReader
    from edge_router.compile.targets import host_target
    from edge_router.compile.weights.equalize import Activations
    from edge_router.compile.weights.package import PackageWindows, write_model
    from edge_router.compile.weights.quantize import supported
    from edge_router.device import host

    class Loud(RandomReader):
        """Layers that prefer some tokens to others, so that it matters which are seen."""

        def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
            found = super().rows(name, start, stop)
            return found if found.ndim == 1 else found * np.float32(75 / found.shape[-1] ** 0.5)

    numbers = {**NUMBERS, **KINDS[request.param]}
    made = tmp_path_factory.mktemp(request.param)
    write_model(
        Loud(numbers, built_model.model_dir), made, config=numbers, form=supported("q4f16_1"),
        quantizer="round", activations=Activations(), windows=PackageWindows(CONTEXT, CHUNK, 8),
    )  # fmt: skip
    config = json.loads((made / "mlc-chat-config.json").read_text(encoding="utf-8"))
    compile_library(config, "q4f16_1", host_target(host()), made / "model.tar")
    assert "pages" in check_library(made / "model.tar")
    return made


@pytest.fixture
def runner(folder: Path) -> Iterator[TvmRunner]:
    made = TvmRunner(folder, folder / "model.tar", max_sequences=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Any:
    """wanted(tokens): logits after each, of the numpy model."""
    from edge_router.compile.readers import open_weights
    from edge_router.compile.weights.reference import Reference

    reference = Reference(open_weights(folder))

    def logits(tokens: Sequence[int]) -> np.ndarray:
        reference.reset()
        return reference.logits(reference.hidden(tokens))

    return logits


def text(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, length).tolist()


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted[..., : found.shape[-1]]).max() < CLOSE * wanted.std())


def test_it_reads_and_writes_as_numpy_does(runner: TvmRunner, wanted: Any) -> None:
    tokens = text(1, 160)
    logits = wanted(tokens)
    for sequence in range(3):
        runner.add_sequence(sequence)
    for start in range(0, 128, CHUNK):
        assert close(runner.prefill(0, tokens[start : start + CHUNK]), logits[start + CHUNK - 1])
    alone = [runner.decode([0], [token])[0].copy() for token in tokens[128:]]
    assert close(np.stack(alone), logits[128:])
    both = runner.prefill_many([1, 2], [tokens[:9], tokens[:20]]).copy()
    assert close(both, logits[[8, 19]])
    both = runner.decode([2, 1], [tokens[20], tokens[9]]).copy()
    assert close(both, logits[[20, 9]])


def test_guesses_are_computed_as_one_by_one(runner: TvmRunner) -> None:
    """To the last bit, whatever was guessed wrongly before."""
    prompt, tokens = text(2, 50), text(3, 40)
    for sequence in range(3):
        runner.add_sequence(sequence)
        runner.prefill(sequence, prompt)
    alone = [runner.decode([0], [token])[0].copy() for token in tokens]
    rng, done = np.random.default_rng(4), 0
    while done < len(tokens) - 8:
        right = int(rng.integers(1, runner.ahead - 1))
        wrong = [7] * int(rng.integers(0, runner.ahead - right))
        more = tokens[done : done + right]
        found = runner.verify([2, 1], [tokens[done : done + 1], [*more, *wrong]]).copy()
        assert np.array_equal(found[0], alone[done])
        for row, one in zip(found[1:], alone[done : done + right], strict=False):
            assert np.array_equal(row, one), done
        runner.pop_tokens(1, len(wrong))
        for token in more[1:]:
            runner.decode([2], [token])
        done += right


def test_what_lies_behind_a_checkpoint_is_read_again(runner: TvmRunner, wanted: Any) -> None:
    """Conversations in turn, an edited one among them, out of what is kept of the others."""
    pool, begun = SequencePool(runner, 16), text(5, 300)
    prompts = [begun, text(6, 90), [*begun, *text(7, 40)], [*begun[:280], *text(8, 70)], begun[:200]]
    known = []
    for prompt in (*prompts, *prompts):
        held = pool.begin(prompt)
        known.append(len(held.tokens))
        assert pool.make_room([(held, len(prompt) - len(held.tokens))])
        while len(held.tokens) < len(prompt):
            more = prompt[len(held.tokens) : len(held.tokens) + CHUNK]
            found = runner.prefill(held.sequence, more)
            held.tokens += more
        assert close(found, wanted(prompt)[-1])
        pool.finish(held)
    assert known[:3] == [0, 0, 300]
    assert 240 <= known[3] <= 280  # by how many checkpoints there are
    assert 112 <= known[4] < 200


def test_a_reader_that_forks_does_not_change_its_parent(runner: TvmRunner, wanted: Any) -> None:
    tokens, left, right = text(9, 70), text(10, 21), text(11, 5)
    runner.add_sequence(0)
    runner.prefill(0, tokens[:64])
    runner.prefill(0, tokens[64:])
    for child in (1, 2):
        runner.fork_sequence(0, child, 70)
    rows = runner.prefill_many([1, 2], [left, right]).copy()
    assert close(rows, np.stack([wanted(tokens + left)[-1], wanted(tokens + right)[-1]]))
    runner.remove_sequence(1)
    assert close(runner.decode([0], [left[0]])[0], wanted([*tokens, left[0]])[-1])


def test_replies_are_weighed_in_forks_of_forks(runner: TvmRunner, wanted: Any) -> None:
    """As many at once as the runner says, each with a state of its own, beside all that is kept."""
    pool, shared = SequencePool(runner, 16), text(13, 40)
    for number in range(8):  # kept, as many as may be
        held = pool.begin(text(20 + number, 20))
        runner.prefill(held.sequence, more := text(20 + number, 20))
        held.tokens += more
        pool.finish(held)
    root = pool.begin(shared)
    runner.prefill(root.sequence, shared)
    root.tokens += shared
    replies = ((5,), (6, 7), (6, 8, 9), (10, 11))
    asked = [Branch(tuple(text(40 + number, 3)), replies) for number in range(2 * runner.together + 1)]
    told: dict[int, tuple[float, ...]] = {}

    class Heard:
        def weighed(self, number: int, logprobs: tuple[float, ...]) -> None:
            told[number] = logprobs

        def over(self, cached: int) -> None: ...

    branches = Branches(asked, Heard())
    while not branches.complete:
        branches.step(runner, pool, root, CHUNK)
    for number, branch in enumerate(asked):
        for reply, found in zip(replies, told[number], strict=True):
            whole = [*shared, *branch.tokens, *reply]
            logits = wanted(whole)[len(whole) - len(reply) - 1 : -1, : runner.vocab_size].astype(np.float64)
            shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            right = sum(row[token] for row, token in zip(shares, reply, strict=True))
            assert abs(found - right) < 0.2, (number, reply)


def test_what_is_saved_comes_back_to_the_bit(runner: TvmRunner) -> None:
    """Keys, values and states, in whatever slot they lie."""
    tokens, length = text(12, 120), 96
    pages = runner.saving
    assert pages is not None
    runner.add_sequence(0)
    runner.prefill(0, tokens[:64])
    runner.prefill(0, tokens[64:length])
    wanted = runner.prefill(0, tokens[length:]).copy()
    assert pages.has_all(0, length) and not pages.has_all(0, 16)
    saved: list[bytes] = []
    pages.save(0, length, lambda data: saved.append(bytes(data)))
    assert sum(map(len, saved)) == pages.saved_bytes(length)
    rest = memoryview(b"".join(saved))

    def read(target: memoryview) -> None:
        nonlocal rest
        target.cast("B")[:] = rest[: target.nbytes]
        rest = rest[target.nbytes :]

    runner.reset()
    for other in (1, 2):
        runner.add_sequence(other)
        runner.prefill(other, text(other, 40))
    runner.add_sequence(3)
    pages.restore(3, length, read)
    assert not rest
    assert np.array_equal(runner.prefill(3, tokens[length:]), wanted)


def test_guesses_change_no_text(folder: Path) -> None:
    """Of an answer that goes in circles, as a model without sense does, where guesses hold."""
    said = []
    question = ChatRequest(
        (Message("user", "one two three one two three one two three"),),
        max_tokens=48,
        sampling=SamplingParams(temperature=0.0),
    )
    for speculation in (False, True):
        engine = open_model(
            folder, folder / "model.tar", model_id="tiny", threads=1, max_sequences=2,
            speculation=speculation,
        )  # fmt: skip
        try:
            for _ in range(2):  # the second time out of what is kept
                events = list(answered(engine, question, threading.Event()))
                said.append("".join(event.text for event in events if isinstance(event, TextDelta)))
        finally:
            engine.close()
    assert len(set(said)) == 1


def test_the_planner_knows_their_bytes(folder: Path, runner: TvmRunner) -> None:
    chat = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
    shape = ModelShape.of({**chat["model_config"], "model_type": chat["model_type"]}, "tiny")
    settings = Settings("q4f16_1", CONTEXT, CHUNK, 2)
    products = estimate(shape, quantization("q4f16_1"), settings, Place(backend("cpu")))
    planned = total([item for item in products if item.name.startswith("states, ")])
    cache: Any = runner._cache
    assert planned == sum(array.nbytes for array in cache.states._memory) > 0


def test_other_engines_say_that_they_cannot(folder: Path, tmp_path: Path) -> None:
    from edge_router.compile.library import compile_library
    from edge_router.compile.targets import gpu_target
    from edge_router.compile.webgpu.build import build_program
    from edge_router.device import host

    chat = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
    with pytest.raises(UnsupportedTarget, match="states, which only the processor's kernels"):
        compile_library(chat, "q4f16_1", gpu_target("cuda", host(), "sm_89"), tmp_path / "model.tar")
    with pytest.raises(UnsupportedTarget, match="webgpu"):
        build_program({**chat["model_config"], "model_type": chat["model_type"]}, "q4f16_1")
