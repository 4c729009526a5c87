"""Our own engine as users have it: scheduling, choosing the token and making its text count."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from edge_router.bench.peers.cases import DECODED
from edge_router.bench.weak_sides import Ours
from edge_router.chat.events import EngineTimings, Finished
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.local.prompt import LocalPrompt

_GREEDY = SamplingParams(temperature=0)
_AHEAD = 16  # tokens that an answer may be ahead of the last, so that all go on while that is timed


class OursInTokens(Ours):
    """Reads drawn tokens, as llama-bench does."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        import numpy as np

        super().__init__(options)
        self._engine.ends_loops = False
        self._draw = np.random.default_rng(0)

    def read(self, length: int, batch: int) -> float:
        """Seconds to read `batch` prompts that are new, until each has its first token."""
        prompts = [self._drawn(length) for _ in range(batch)]
        if batch == 1:
            return self._answered(prompts[0], 1).prefill_s or 0.0
        with ThreadPoolExecutor(batch) as pool:
            begin = time.perf_counter()
            list(pool.map(lambda prompt: self._answered(prompt, 1), prompts))
            return time.perf_counter() - begin

    def write(self, depth: int, batch: int) -> float:
        """Seconds for `DECODED` greedy tokens of each of `batch` answers, `depth` tokens behind each.

        Those are read before; the last answer to begin is timed, and the others end after it.
        """
        prompts = [self._drawn(max(depth, 1)) for _ in range(batch)]
        for prompt in prompts:
            self._answered(prompt, 1)
        with ThreadPoolExecutor(batch) as pool:
            for prompt in prompts[:-1]:
                pool.submit(self._answered, prompt, DECODED + _AHEAD)
            timings = pool.submit(self._answered, prompts[-1], DECODED + 1).result()
        if timings.decode_tokens != DECODED:
            raise ValueError(f"{timings.decode_tokens} tokens were written")
        return timings.decode_s or 0.0

    def _drawn(self, length: int) -> list[int]:
        numbers: list[int] = self._draw.integers(0, self._engine.vocab_size, length).tolist()
        return numbers

    def _answered(self, tokens: Sequence[int], count: int) -> EngineTimings:
        request = ChatRequest((), sampling=_GREEDY, max_tokens=count, raw_prompt="drawn")
        prompt = LocalPrompt(request, len(tokens), tokens)
        *_, last = self._engine.stream(prompt, threading.Event())
        assert isinstance(last, Finished) and last.timings is not None
        return last.timings
