"""The thread that owns the model: pages of the KV cache, who is admitted, one token after the other.

What it raises ends it, and nobody else is told: whoever waits for it waits for ever, as with the real one.
"""

import json
import os
import queue
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..log import read_library
from ..protocol.generation_config import GenerationConfig
from ..protocol.mlc_chat_config import MLCChatConfig
from . import model as lm
from .config import EngineConfig

PAGE = 16
WATERMARK = 8  # tokens that must still have room when a prompt is admitted
MOST_TOP_LOGPROBS = 5  # of the sampler for processors
NOTHING = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass
class Output:
    """A step of one answer: new tokens, or its end, or, last, its usage."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[str] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, int] | None = None


@dataclass
class Answer:
    id: str
    prompt: list[int]
    config: GenerationConfig
    said: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)  # perhaps the beginning of a stop string
    cached: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.config.seed or 0)

    @property
    def pages(self) -> int:
        return -(-self.cached // PAGE)


def xgrammar(schema: Any) -> None:
    """What it does not know ends the thread, and what it ignores counts as that here."""
    if isinstance(schema, dict):
        for word in ("pattern", "minLength", "maximum", "allOf", "not", "oneOf"):
            assert word not in schema
        if not isinstance(schema.get("type", ""), str):
            raise RuntimeError('InternalError: Check failed: schema.at("type").is<std::string>()')
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        xgrammar(inner)


Tell = Callable[[str, Output], None]


class Background:
    """`run` is the thread's; the rest may be called from others."""

    def __init__(self, folder: Path, library: Path, chat: MLCChatConfig, config: EngineConfig, tell: Tell):
        self._folder, self._library, self._chat, self._config = folder, library, chat, config
        self._tell, self._asked = tell, queue.SimpleQueue[tuple[str, Any]]()
        self._waiting: list[Answer] = []
        self._running: list[Answer] = []
        self.loaded = lambda: None
        self.context = self.total = 0

    def put(self, kind: str, what: Any = None) -> None:
        self._asked.put((kind, what))

    def run(self) -> None:
        self._reload()
        self.loaded()
        while True:
            idle = not (self._waiting or self._running)
            while idle or not self._asked.empty():
                kind, what = self._asked.get()
                idle = False
                if kind == "exit":
                    return
                if kind == "abort":
                    self._abort(what)
                if kind == "add":
                    self._add(what)
            if not self._admit() and not self._decode():
                time.sleep(0.002)  # the real one spins

    def _reload(self) -> None:
        if self._library.suffix not in (".so", ".dylib", ".dll"):
            raise RuntimeError(f"InternalError: Loader for `.{self._library.suffix[1:]}` is not registered")
        compiled = {"prefill_chunk_size": self._chat.prefill_chunk_size, **read_library(self._library)}
        if os.environ.get("MLC_STANDIN_OPEN") == "memory":
            raise RuntimeError(
                "InternalError: Insufficient GPU memory error: The available single GPU memory is 68.0 MB, which "
                "is less than the sum of model weight size (1.0 MB) and temporary buffer size (99.0 MB)."
            )
        if not (self._folder / "tensor-cache.json").is_file():
            raise RuntimeError(f"InternalError: Cannot open file: {self._folder / 'tensor-cache.json'}")
        chunk = self._config.prefill_chunk_size or compiled["prefill_chunk_size"]
        if chunk > compiled["prefill_chunk_size"]:
            most = compiled["prefill_chunk_size"]
            raise RuntimeError(f"InternalError: Check failed: prefill_chunk_size ({chunk} vs. {most})")
        most = compiled.get("context_window_size", self._chat.context_window_size)
        self.context = min(self._config.max_single_sequence_length or most, most)  # clipped, and not said
        asked = self._config.max_num_sequence or (1 if self._config.mode == "interactive" else 4)
        self._together = asked if asked <= compiled.get("max_batch_size", asked) else 1
        whole = {"local": min(self.context, 8192), "interactive": self.context}
        inferred = whole.get(str(self._config.mode), asked * self.context)
        self.total = self._config.max_total_sequence_length or inferred
        self._pages = -(-self.total // PAGE)
        self._words = lm.Words(self._folder)
        ends = self._chat.conv_template.stop_token_ids
        self._model = lm.Model(self._words, self._chat.vocab_size, ends[0] if ends else 0)

    def _add(self, answer: Answer) -> None:
        form = answer.config.response_format
        if form is not None and form.json_schema is not None:
            xgrammar(json.loads(form.json_schema))
        if len(answer.prompt) >= self.context:
            self._finish(answer, "length", nothing=True)
        else:
            self._waiting.append(answer)

    def _abort(self, request_id: str) -> None:
        self._waiting = [answer for answer in self._waiting if answer.id != request_id]
        self._running = [answer for answer in self._running if answer.id != request_id]

    def _free(self) -> int:
        return self._pages - sum(answer.pages for answer in self._running)

    def _admit(self) -> bool:
        """The first who waits: with a page for each answer to go on, and room for some more tokens."""
        if not self._waiting or len(self._running) >= self._together:
            return False
        answer, running = self._waiting[0], len(self._running)
        tokens = len(answer.prompt) + len(answer.said)
        now = sum(other.cached for other in self._running) + running
        if running + -(-tokens // PAGE) + running + 1 > self._free():
            return False
        if now + tokens + WATERMARK * (running + 1) > self.total:
            return False
        if answer.config.seed == lm.EXHAUSTED:
            raise RuntimeError("InternalError: CUDA: out of memory")
        self._running.append(self._waiting.pop(0))
        answer.cached = tokens
        self._next(answer)
        return True

    def _decode(self) -> bool:
        """A token for each; without a free page for each, the last ones go back to those who wait."""
        while len(self._running) > self._free():
            last = self._running.pop()
            last.cached = 0
            self._waiting.insert(0, last)
        for answer in list(self._running):
            answer.cached += 1
            self._next(answer)
        return bool(self._running)

    def _next(self, answer: Answer) -> None:
        config, said = answer.config, answer.said
        if len(said) == 2:
            self._fault(answer)
        if answer not in self._running:
            return
        if any(not 0 <= token < self._chat.vocab_size for token in config.logit_bias or ()):
            os._exit(11)  # it writes where it should not
        if config.top_logprobs > MOST_TOP_LOGPROBS:
            raise RuntimeError(
                f"InternalError: Check failed: num_top_probs <= 5 ({config.top_logprobs} vs. 5)"
            )
        formed = config.response_format is not None and config.response_format.type == "json_object"
        place = self._model.begun(answer.prompt) + len(said)
        row = self._model.logits(config.seed, place, formed=formed)
        found = lm.probabilities(row, config, said)
        token = lm.sample(found, answer.chance)
        said.append(token)
        output = Output()
        if config.logprobs:
            told = lm.logprob_json(self._words, found, token, config.top_logprobs)
            output.logprobs.append(json.dumps(told))
        self._ended(answer, token, output)
        if formed and output.finish is None and self._model.is_whole(said):
            output.finish = "stop"  # without a token that says so
        if output.finish is None:
            self._tell(answer.id, output)
        else:
            self._finish(answer, output.finish, output)

    def _ended(self, answer: Answer, token: int, output: Output) -> None:
        config, answer.held = answer.config, [*answer.held, token]
        data = self._data(answer.held)
        stops = [stop.encode() for stop in config.stop_strs or ()]
        if any(stop in data for stop in stops):
            kept = min(data.index(stop) for stop in stops if stop in data)
            while len(self._data(answer.held)) > kept:
                answer.held.pop()
            output.tokens, output.finish = answer.held, "stop"
            return
        if token in (config.stop_token_ids or ()):
            output.tokens, output.finish = answer.held[:-1], "stop"
            return
        if not any(data.endswith(stop[:n]) for stop in stops for n in range(1, len(stop))):
            output.tokens, answer.held = answer.held, []
        full = len(answer.prompt) + len(answer.said) >= self.context
        if full or 0 <= config.max_tokens <= len(answer.said):
            output.tokens, output.finish = [*output.tokens, *answer.held], "length"

    def _data(self, tokens: list[int]) -> bytes:
        return b"".join(map(self._words.bytes_of, tokens))

    def _finish(
        self, answer: Answer, reason: str, output: Output | None = None, nothing: bool = False
    ) -> None:
        self._running = [other for other in self._running if other is not answer]
        output = output or Output()
        output.finish = reason
        self._tell(answer.id, output)
        prompt, said = len(answer.prompt), len(answer.said)
        usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
        self._tell(answer.id, Output(usage=NOTHING if nothing else usage))

    def _fault(self, answer: Answer) -> None:
        match answer.config.seed:
            case lm.FAILS:
                raise RuntimeError("InternalError: a kernel failed")
            case lm.CRASHES:
                os._exit(7)
            case lm.PREEMPTED:
                self._finish(answer, "preempt", nothing=True)
            case lm.STALLS:
                self._running.remove(answer)
