"""Quantizing takes memory for one tensor of the output, however large the model is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("eight_billion.py")


@pytest.mark.slow
def test_an_8b_checkpoint_is_quantized_within_its_largest_tensor(tmp_path: Path) -> None:
    """With two of its 32 layers: the others are like them, and the embedding is the largest tensor."""
    run = [sys.executable, str(SCRIPT), str(tmp_path), "2"]
    peak = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    index = json.loads((tmp_path / "quantized" / "tensor-cache.json").read_text())
    arrays = {record["name"]: record["nbytes"] for shard in index["records"] for record in shard["records"]}
    largest = arrays["model.embed_tokens.q_weight"] + arrays["model.embed_tokens.q_scale"]
    assert largest == 128256 * 4096 * 4.5 / 8
    python_and_threads = 300 << 20
    assert peak < largest + python_and_threads < 6e9
