"""What a router is worth where it was not fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import LocalSource
from edge_router.compile.train_router import HeadSettings, TrainSettings, measure_transfer, train
from edge_router.compile.training import transfer as transfers
from edge_router.compile.training.pool import read_pool
from edge_router.compile.training.settings import FineTuning, Kind
from edge_router.errors import InvalidData
from edge_router.routing.routers.tokens import Cut

pytestmark = pytest.mark.reference


@pytest.fixture
def own_tasks(pool_file: Path, tmp_path: Path) -> Path:
    """The pool with tasks that no two sources share, and one that both have."""
    from pyarrow import Table, parquet

    rows = parquet.read_table(pool_file).to_pylist()
    for i, row in enumerate(rows):
        row["subset"] = "both" if i % 6 < 2 else f"{row['source']} {row['subset']}"
    table = Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "own.parquet")
    return tmp_path / "own.parquet"


@pytest.fixture
def settings(
    own_tasks: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TrainSettings:
    monkeypatch.setattr(transfers, "FEWEST", 20)
    return TrainSettings(
        pool=own_tasks,
        output=tmp_path / "out",
        name="toy",
        base=LocalSource(tiny_encoder),
        encoder="toy",
        layers=(0,),
        cut=Cut(max_tokens=20, tail_tokens=6),
        dimensions=8,
        head=HeadSettings(rank=4, ridge=20, own_ridge=100),
        fine_tuning=FineTuning(rank=4, trained_layers=1),
        precision="float32",
    )


@pytest.mark.parametrize("kind", ["mf", "static", "sw_ranking", "bert"])
def test_what_is_hard_in_one_source_is_hard_in_the_other(settings: TrainSettings, kind: Kind) -> None:
    train(settings)
    layers = {"static": (), "bert": (0, 1)}.get(kind, (0,))
    found = measure_transfer(replace(settings, name="new", kind=kind, layers=layers), "source")
    assert set(found) == {"first", "second"}
    least = 0.5 if kind == "sw_ranking" else 0.6  # eight random directions tell a ranking little
    assert all(one.mean is not None and one.mean > least for one in found.values())
    assert not (settings.output / "new").exists()


def test_nothing_that_is_left_out_is_fitted_on(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, seen = read_pool(settings.pool), []

    def fit(*_: object) -> transfers.Fit:
        def one(rows: np.ndarray) -> np.ndarray:
            seen.append(set(pool.subsets[rows].tolist()))
            return np.array([len(prompt) for prompt in pool.prompts], np.float64)

        return one

    monkeypatch.setattr(transfers, "_fit", fit)
    found = measure_transfer(settings, "subset")
    tasks = {name: name.partition("/")[2] for name in found}
    assert len(seen) == len(found) == 6
    for (name, task), fitted in zip(tasks.items(), seen, strict=True):
        assert name not in fitted
        assert task not in {subset.partition("/")[2] for subset in fitted}


def test_a_source_takes_its_tasks_along(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, seen = read_pool(settings.pool), []

    def one(rows: np.ndarray) -> np.ndarray:
        seen.append(set(pool.subsets[rows].tolist()))
        return np.arange(len(pool), dtype=np.float64)

    monkeypatch.setattr(transfers, "_fit", lambda *_: one)
    assert list(measure_transfer(settings, "source")) == ["first", "second"]
    assert seen == [{f"second/second {x}" for x in "xy"}, {f"first/first {x}" for x in "xy"}]


def test_a_pool_of_one_task_leaves_nothing(settings: TrainSettings, pool_file: Path) -> None:
    with pytest.raises(InvalidData, match="without first and its tasks no prompt is left"):
        measure_transfer(replace(settings, pool=pool_file, kind="static", layers=()), "source")
