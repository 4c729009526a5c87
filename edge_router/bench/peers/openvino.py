"""OpenVINO GenAI on a GGUF file: its own loop in C++, one call for a whole answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edge_router.bench.peers.cases import DECODED

NAME, PACKAGE = "openvino", "openvino_genai"
# What it multiplies with: numbers as they are, or rounded to eight bits as it goes ("dynamic quantization").
ACTIVATIONS: Mapping[str, Mapping[str, object]] = {
    "static": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0},
    "dynamic": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32},
}


class OpenVino:
    """`options`: the file, the threads, and which of `ACTIVATIONS`."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        import numpy as np
        import openvino_genai

        # Named, for the other one keeps no prefixes.
        properties = {
            "ATTENTION_BACKEND": "PA",
            "INFERENCE_NUM_THREADS": options["threads"],
            **ACTIVATIONS[options["activations"]],
        }
        self._genai = openvino_genai
        self._pipeline = openvino_genai.LLMPipeline(options["gguf"], "CPU", **properties)
        self._vocabulary, self._draw = int(options["vocabulary"]), np.random.default_rng(0)

    def read(self, length: int, batch: int) -> float:
        """Seconds to read `batch` prompts that are new, until each has its first token."""
        begin = time.perf_counter()
        self._answered(self._drawn(length, batch), 1)
        return time.perf_counter() - begin

    def write(self, depth: int, batch: int) -> float:
        """Seconds for `DECODED` greedy tokens of each of `batch` answers, `depth` tokens behind each.

        Those are read before, and kept by its cache of prefixes.
        """
        tokens = self._drawn(max(depth, 1), batch)
        self._answered(tokens, 1)
        metrics = self._answered(tokens, DECODED + 1)
        milliseconds = metrics.get_generate_duration().mean - metrics.get_ttft().mean
        return float(milliseconds) / 1000

    def _drawn(self, length: int, batch: int) -> Any:
        return self._draw.integers(0, self._vocabulary, (batch, length))

    def _answered(self, tokens: Any, count: int) -> Any:
        import numpy as np
        from openvino import Tensor

        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos = count, True
        config.do_sample = config.apply_chat_template = False
        inputs = self._genai.TokenizedInputs(Tensor(tokens), Tensor(np.ones_like(tokens)))
        return self._pipeline.generate(inputs, config).perf_metrics
