"""A pool in which the word "hard" makes a prompt hard, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def pool_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
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
