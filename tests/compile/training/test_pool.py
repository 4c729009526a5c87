from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from edge_router.compile.training.pool import read_pool
from edge_router.errors import InvalidData

ROWS = [
    {"prompt": "p", "source": "s", "subset": "x", "scores": '{"m": 1, "n": 0.5}'},
    {"prompt": "q", "source": "t", "subset": "x", "scores": '{"m": 0}'},
]


def write(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def test_a_model_under_another_scorer_is_another_model(tmp_path: Path) -> None:
    pool = read_pool(write(tmp_path, ROWS))
    assert pool.models == ("s/m", "s/n", "t/m")
    assert pool.labels.tolist()[0][:2] == [1, 0.5]
    assert np.isnan(pool.labels).tolist() == [[False, False, True], [True, True, False]]
    assert pool.subsets.tolist() == ["s/x", "t/x"]


def test_the_split_is_the_files_own_or_drawn_the_same_way_every_time(pool_file: Path, tmp_path: Path) -> None:
    assert read_pool(pool_file).validation.sum() == 48
    many = [{**ROWS[0], "prompt": f"prompt {i}"} for i in range(500)]
    one, two = (read_pool(write(tmp_path, many)).validation for _ in range(2))
    assert (one == two).all()
    assert 25 < one.sum() < 80


def test_the_provenance_counts_by_source_and_licence(pool_file: Path, tmp_path: Path) -> None:
    text = read_pool(pool_file).provenance()
    assert text == "240 prompts answered by 6 models: first 120 (MIT), second 120 (MIT)"
    assert "licence not stated" in read_pool(write(tmp_path, ROWS)).provenance()


def test_taking_rows_takes_everything_of_them(pool_file: Path) -> None:
    pool = read_pool(pool_file)
    held = pool.take(pool.validation)
    assert len(held) == len(held.labels) == len(held.sources) == 48
    assert held.validation.all()
    assert held.prompts[0] == pool.prompts[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": "nonsense"}, "row 0: scores are not JSON"),
        ({"scores": "[1]"}, "row 0: scores are not JSON"),
        ({"scores": json.dumps({"m": 2})}, "row 0: the score of m is 2.0, not in 0..1"),
        ({"scores": '{"m": NaN}'}, "row 0: scores are not JSON"),
        ({"scores": None}, "row 0: scores are not JSON"),
    ],
)
def test_bad_scores_are_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidData, match=reason):
        read_pool(write(tmp_path, [{**ROWS[0], **change}]))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no column scores, subset"):
        read_pool(write(tmp_path, [{"prompt": "p", "source": "s"}]))


def test_what_is_no_parquet_file_is_said(tmp_path: Path) -> None:
    file = tmp_path / "pool.parquet"
    with pytest.raises(InvalidData, match="cannot be read"):
        read_pool(file)
    file.write_bytes(b"PAR1")
    with pytest.raises(InvalidData, match="cannot be read as parquet"):
        read_pool(file)


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    empty = pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in ROWS[0]})
    parquet.write_table(empty, tmp_path / "pool.parquet")
    with pytest.raises(InvalidData, match="no rows"):
        read_pool(tmp_path / "pool.parquet")
