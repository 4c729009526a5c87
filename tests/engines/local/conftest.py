"""A model of a few lines in place of a compiled one, and tokenizers made on the spot."""

from __future__ import annotations

import codecs
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from jinja2 import Environment

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class FakeRunner:
    """A `ModelRunner` whose next token depends on every token that lies in the KV cache.

    A mistake in what is kept, shared or computed again therefore changes the answer. Pages are counted as a
    paged KV cache does, shared ones once. `fail["decode"] = 3` makes the third call from now raise.
    """

    def __init__(
        self,
        vocab_size: int = 300,
        *,
        context: int = 256,
        chunk: int = 32,
        sequences: int = 1,
        pages: int | None = None,
        end_token: int | None = None,
        speaks: Sequence[int] = (),
    ) -> None:
        self.vocab_size, self.context_window_size, self.prefill_chunk_size = vocab_size, context, chunk
        self.max_sequences, self.page_size = sequences, 16
        self.pages = pages if pages is not None else -(-context // 16) * sequences
        self.end_token, self.speaks = end_token, list(speaks)
        self.sequences: dict[int, list[int]] = {}
        self.owned: dict[int, list[object]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.fail: dict[str, int] = {}
        self.thread: int | None = None
        self.closed = False
        self.gate: threading.Event | None = None  # decode waits for it
        self.entered = threading.Event()

    @property
    def free_tokens(self) -> int:
        return (self.pages - len({id(page) for pages in self.owned.values() for page in pages})) * 16

    def add_sequence(self, sequence: int) -> None:
        self._called("add_sequence", sequence)
        assert sequence not in self.sequences
        self.sequences[sequence], self.owned[sequence] = [], []

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        self._called("fork_sequence", (parent, child, position))
        assert 1 <= position <= len(self.sequences[parent])
        self.sequences[child] = self.sequences[parent][:position]
        self.owned[child] = self.owned[parent][: position // 16]
        if position % 16:
            self.owned[child].append(self._page())

    def holds(self, sequence: int, position: int) -> bool:
        return True

    def new_pages(self, sequence: int, length: int, count: int) -> int:
        return -(-(length + count) // 16) - -(-length // 16)

    def pop_tokens(self, sequence: int, count: int) -> None:
        self._called("pop_tokens", (sequence, count))
        del self.sequences[sequence][len(self.sequences[sequence]) - count :]
        del self.owned[sequence][-(-len(self.sequences[sequence]) // 16) :]

    def remove_sequence(self, sequence: int) -> None:
        self._called("remove_sequence", sequence)
        del self.sequences[sequence], self.owned[sequence]

    def prefill(self, sequence: int, tokens: Sequence[int]) -> np.ndarray:
        self._called("prefill", (sequence, list(tokens)))
        assert 0 < len(tokens) <= self.prefill_chunk_size
        return self._append(sequence, tokens)

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
        self._called("decode", list(sequences))
        assert 0 < len(sequences) <= self.max_sequences
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        return np.stack([self._append(s, [t]) for s, t in zip(sequences, tokens, strict=True)])

    def reset(self) -> None:
        self._called("reset", None)
        self.sequences.clear()
        self.owned.clear()

    def close(self) -> None:
        self._called("close", None)
        self.closed = True
        self.sequences.clear()
        self.owned.clear()

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """What the model says after `tokens`."""
        seed = zlib.crc32(np.asarray(tokens, np.int64).tobytes())
        row = np.random.default_rng(seed).standard_normal(self.vocab_size).astype(np.float32)
        if self.end_token is not None:
            row[self.end_token] = -50.0 if seed % 16 else 50.0
        row[self.speaks] += 20.0
        return row

    def greedy(self, prompt: Sequence[int], count: int, vocab_size: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[:vocab_size].argmax()))
        return tokens[len(prompt) :]

    def count(self, name: str) -> int:
        return sum(call == name for call, _ in self.calls)

    def _append(self, sequence: int, tokens: Sequence[int]) -> np.ndarray:
        held = self.sequences[sequence]
        held += tokens
        assert len(held) <= self.context_window_size
        while len(self.owned[sequence]) * 16 < len(held):
            self.owned[sequence].append(self._page())
        return self.logits(held)

    def _page(self) -> object:
        if self.free_tokens < 16:
            raise RuntimeError("the KV cache is full")
        return object()

    def _called(self, name: str, argument: Any) -> None:
        self.thread = self.thread or threading.get_ident()
        assert self.thread == threading.get_ident(), "a runner belongs to one thread"
        self.calls.append((name, argument))
        if name in self.fail:
            self.fail[name] -= 1
            if self.fail[name] == 0:
                del self.fail[name]
                raise RuntimeError(f"{name} broke")


class OverlappingFake(FakeRunner):
    """One that computes while something else is done, and must not be called meanwhile."""

    overlaps = True

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.computing = False

    def decode_while(
        self, sequences: Sequence[int], tokens: Sequence[int], meanwhile: Callable[[], None]
    ) -> np.ndarray:
        self.computing = True
        try:
            meanwhile()
        finally:
            self.computing = False
        return self.decode(sequences, tokens)

    def _called(self, name: str, argument: Any) -> None:
        assert not self.computing
        super()._called(name, argument)


class BatchingFake(FakeRunner):
    """One that reads several prompts in one call."""

    together = 4

    def prefill_many(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> np.ndarray:
        self._called("prefill_many", (list(sequences), [list(more) for more in tokens]))
        assert 0 < len(sequences) <= self.together
        assert 0 < sum(map(len, tokens)) <= self.prefill_chunk_size and all(tokens)
        return np.stack([self._append(s, more) for s, more in zip(sequences, tokens, strict=True)])


class VerifyingFake(FakeRunner):
    """One that checks guesses, and whose model mostly goes on as it did behind the same token.

    Each call takes a while, however many tokens it is for.
    """

    def __init__(self, *given: Any, ahead: int = 8, **options: Any) -> None:
        super().__init__(*given, **options)
        self.ahead = ahead

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        return super().logits(tokens[-1:]) + 0.02 * super().logits(tokens)

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
        time.sleep(0.0004)
        return super().decode(sequences, tokens)

    def verify(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> np.ndarray:
        self._called("verify", [len(more) for more in tokens])
        time.sleep(0.0004)
        assert 0 < sum(map(len, tokens)) <= self.ahead and all(tokens)
        pairs = zip(sequences, tokens, strict=True)
        return np.stack([self._append(sequence, [token]) for sequence, more in pairs for token in more])


class SavingFake(FakeRunner):
    """One whose KV cache can be written to a file: the tokens themselves, in whole pages."""

    saved_form: ClassVar[dict[str, object]] = {"page": [16]}

    @property
    def saving(self) -> SavingFake:
        return self

    def saved_bytes(self, length: int) -> int:
        return -(-length // 16) * 16 * 4

    def has_all(self, sequence: int, length: int) -> bool:
        return True

    def save(self, sequence: int, length: int, write: Callable[[memoryview], None]) -> None:
        self._called("save", (sequence, length))
        page = np.zeros(self.saved_bytes(length) // 4, np.int32)
        page[:length] = self.sequences[sequence][:length]
        write(memoryview(page))

    def restore(self, sequence: int, length: int, read: Callable[[memoryview], None]) -> None:
        self._called("restore", (sequence, length))
        if -(-length // 16) * 16 > self.free_tokens:
            raise MemoryError
        page = np.zeros(self.saved_bytes(length) // 4, np.int32)
        read(memoryview(page))
        self._append(sequence, page[:length].tolist())


RUNNERS: dict[str, type[FakeRunner]] = {"in turns": FakeRunner, "overlapping": OverlappingFake}


@pytest.fixture
def runner_kind() -> str:
    """Of `RUNNERS`: what `make_engine` makes where nothing else is said."""
    return "in turns"


@pytest.fixture
def fake_runner() -> type[FakeRunner]:
    return FakeRunner


@pytest.fixture
def batching_runner() -> type[FakeRunner]:
    return BatchingFake


@pytest.fixture
def saving_runner() -> type[FakeRunner]:
    return SavingFake


@pytest.fixture
def verifying_runner() -> type[FakeRunner]:
    return VerifyingFake


EngineMaker = Callable[..., tuple[LocalEngine, FakeRunner]]


@pytest.fixture
def make_engine(tokenizer: TextTokenizer, runner_kind: str) -> Iterator[EngineMaker]:
    """make_engine(end=False, **runner's arguments) -> engine and its runner; closed at the end.

    `kind` of runner; `padding` behind the tokens that its model knows.
    """
    engines: list[LocalEngine] = []

    def make(
        *,
        end: bool = False,
        kind: type[FakeRunner] | None = None,
        padding: int = 20,
        template: ChatTemplate | None = None,
        **options: Any,
    ) -> tuple[LocalEngine, FakeRunner]:
        token = tokenizer.token("<|im_end|>")
        options.setdefault("end_token", token)
        runner = (kind or RUNNERS[runner_kind])(tokenizer.vocab_size + padding, **options)
        engine = LocalEngine(
            lambda: runner,
            name="fake",
            model_id="fake-1",
            tokenizer=tokenizer,
            template=template or ChatTemplate(CHATML, model="fake-1"),
            end_tokens={token} if end else (),
            defaults=SamplingDefaults(temperature=0.0),
        )
        engines.append(engine)
        return engine, runner

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def own_words(tokenizer: TextTokenizer) -> Callable[[FakeRunner, ChatRequest, int], str]:
    """own_words(runner, request, count): what the model says by itself, without anything that is tested here."""
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(CHATML)

    def continued(runner: FakeRunner, request: ChatRequest, count: int) -> str:
        turns = [{"role": turn.role, "content": turn.text} for turn in request.messages]
        prompt = tokenizer.encode(template.render(messages=turns, add_generation_prompt=True))
        tokens = runner.greedy(prompt, count, tokenizer.vocab_size)
        return codecs.getincrementaldecoder("utf-8")("replace").decode(
            b"".join(map(tokenizer.token_bytes, tokens))
        )

    return continued


@pytest.fixture
def ask() -> Callable[..., ChatRequest]:
    """ask("Hi", max_tokens=5, temperature=0.3): a request, options of the sampling included."""

    def make(*texts: str, **options: Any) -> ChatRequest:
        names = set(SamplingParams.__dataclass_fields__)
        sampling = {name: options.pop(name) for name in list(options) if name in names}
        turns = [Message("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)]
        return ChatRequest(tuple(turns), sampling=SamplingParams(**sampling), **options)

    return make
