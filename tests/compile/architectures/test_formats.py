"""A model in each of MLC's formats, compiled for this processor, against transformers on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_router.compile.library import QUANTIZATIONS
from edge_router.engines.tvm.engine import TvmRunner

# As in test_architectures.py; where all but the products' integers is float32, a tenth of it, and where
# those are, too, only the order of the sums differs.
CLOSE = {"q4f32_1": 3e-3, "q0f32": 1e-4}


_OFTEN = ("q0f32", "q3f16_1", "q4f16_0", "q4f32_1")  # each way of storing a matrix
_CASES = [name if name in _OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in QUANTIZATIONS]


@pytest.mark.parametrize("name", _CASES)
def test_it_computes_what_transformers_does(name: str, twins: Any, tiny: Any, tmp_path: Path) -> None:
    """Rows of 128, 192 and 256 numbers: no whole number of groups of 40."""
    tied = name in ("q4f16_2", "q4f16_0")
    numbers = {"rope_theta": 1000000.0, "tie_word_embeddings": tied}
    twin = twins.twin("qwen2", numbers, tmp_path, tiny, name)
    runner = TvmRunner(twin.model_dir, twin.library, max_sequences=2)
    try:
        errors = twins.errors(twin, runner)
    finally:
        runner.close()
    assert max(errors.values()) < CLOSE.get(name, 0.03), errors
    assert json.loads((twin.model_dir / "mlc-chat-config.json").read_text())["quantization"] == name
