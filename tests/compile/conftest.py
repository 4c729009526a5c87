"""A pool in which the word "hard" makes a prompt hard, and nothing else does; a random Llama of two layers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/compile/tiny_llama.py, which makes checkpoints."""
    file = Path(__file__).with_name("tiny_llama.py")
    spec = importlib.util.spec_from_file_location("tiny_llama", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_llama"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_llama(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A `TinyLlama` that tests must not change."""
    return tiny.make(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def pool_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pyarrow
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    rows = []
    for i in range(240):
        hard = rng.random() < 0.5
        filler = " ".join(rng.choice(["what", "why", "is", "the", "a", "b", "c"], rng.integers(2, 9)))
        chance = {"good": 0.9, "fair": 0.3 if hard else 0.8, "poor": 0.1 if hard else 0.6}
        scores = {name: float(rng.random() < p) for name, p in chance.items()}
        rows.append(
            {
                "prompt": f"{filler} {'hard prove' if hard else 'easy'} ?",
                "source": ["first", "second"][i % 2],
                "subset": ["x", "y"][i // 2 % 2],
                "scores": json.dumps(scores),
                "split": "val" if i % 5 == 0 else "train",
                "licence": "MIT",
            }
        )
    file = tmp_path_factory.mktemp("pool") / "pool.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file
