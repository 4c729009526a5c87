from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_router.errors import InvalidData, MissingExtra
from edge_router.routing.labels.reading import read_labelled, read_prompts
from edge_router.routing.labels.rows import Labelled

ROWS = [
    {"prompt": "What is 2 + 2?", "weak_score": 1.0, "strong_score": 1.0, "benchmark": "maths"},
    {"prompt": 'Say "hi",\nthen bye', "weak_score": 0.0, "strong_score": 1.0, "benchmark": "chat"},
]


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    if file.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_the_three_formats_give_the_same(tmp_path: Path, suffix: str) -> None:
    data = read_labelled(write(tmp_path / f"mine{suffix}", list(ROWS)))
    assert data.prompts == tuple(row["prompt"] for row in ROWS)
    assert data.weak.tolist() == [1, 0]
    assert data.strong.tolist() == [1, 1]
    assert data.columns == {"benchmark": ("maths", "chat")}
    assert data.name == "mine"
    assert not data.warnings
    assert {name: rows.tolist() for name, rows in data.groups("benchmark").items()} == {
        "chat": [1],
        "maths": [0],
    }


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_rows_without_a_score_are_counted_and_dropped(tmp_path: Path, suffix: str) -> None:
    rows = [*ROWS, {"prompt": "a", "weak_score": None, "strong_score": 1.0, "benchmark": "x"}]
    rows.append({"prompt": "b", "weak_score": float("nan"), "strong_score": 1.0, "benchmark": "x"})
    data = read_labelled(write(tmp_path / f"mine{suffix}", rows))
    assert len(data) == 2
    assert data.warnings == (f"mine{suffix}: 2 of 4 rows dropped for a missing score",)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_missing_columns_are_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InvalidData, match="no column weak_score, strong_score; it has prompt, score"):
        read_labelled(write(tmp_path / f"mine{suffix}", [{"prompt": "a", "score": 1.0}]))


def test_booleans_count_as_nought_and_one(tmp_path: Path) -> None:
    file = tmp_path / "routellm.csv"
    file.write_text("prompt,weak_score,strong_score\nq,True,False\n", encoding="utf-8")
    data = read_labelled(file)
    assert (data.weak[0], data.strong[0]) == (1, 0)


def test_taking_some_rows_takes_their_columns(tmp_path: Path) -> None:
    data = read_labelled(write(tmp_path / "mine.jsonl", list(ROWS))).take(np.array([1]))
    assert data.columns["benchmark"] == ("chat",)
    assert data.strong.tolist() == [1]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"x", "must end in .parquet, .csv, .jsonl"),
        ("a.jsonl", b'{"prompt": 1}\n{nonsense\n', "line 2 is not a JSON object"),
        ("a.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", b"\xff\xfe\n", "not UTF-8"),
        ("a.parquet", b"PAR1 no", "not a parquet file"),
        ("a.csv", b"", "no column prompt, weak_score, strong_score; it has none"),
        ("a.csv", b"prompt,weak_score,strong_score\nq,well,1\n", "row 1: weak_score is 'well'"),
        ("a.csv", b"prompt,weak_score,strong_score\nq,,\n", "no row has a prompt and two scores"),
        ("a.jsonl", b'{"prompt": "q", "weak_score": [1], "strong_score": 1}\n', r"weak_score is \[1\]"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidData, match=reason) as caught:
        read_labelled(file)
    assert caught.value.where == str(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot be read"):
        read_labelled(tmp_path / "none.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_sample_of_traffic_needs_the_prompts_alone(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"sample{suffix}", [{"prompt": "one"}, {"prompt": "two\nlines"}])
    assert read_prompts(file) == ("one", "two\nlines")


def test_a_text_file_holds_a_prompt_per_line(tmp_path: Path) -> None:
    (tmp_path / "sample.txt").write_text("one\n\n  two\n", encoding="utf-8")
    assert read_prompts(tmp_path / "sample.txt") == ("one", "  two")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"\n \n", "holds no prompt"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n', "no column prompt; it has text"),
    ],
)
def test_a_sample_without_prompts_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData, match=reason):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("name", ["nowhere.txt", "nowhere.jsonl"])
def test_a_sample_that_is_not_there_is_refused_without_a_number_of_the_system(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        read_prompts(tmp_path / name)
    assert caught.value.reason.startswith("cannot be read: ") and "Errno" not in caught.value.reason


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as caught:
        read_labelled(tmp_path / "a.parquet")
    assert caught.value.extra == "train"


def test_groups_by_several_columns_and_by_the_weak_model_where_there_are_several():
    columns = {"benchmark": ("a", "a", "b"), "weak_model": ("x", "y", "x"), "subset": ("s", "s", "t")}
    data = Labelled(("p", "q", "r"), np.zeros(3), np.ones(3), columns, name="file")
    assert list(data.groups("benchmark")) == ["a, x", "a, y", "b, x"]
    assert [rows.tolist() for rows in data.groups("benchmark, subset").values()] == [[0, 1], [2]]
    one = data.take([0, 2])
    assert list(one.groups("benchmark")) == ["a", "b"]
    with pytest.raises(InvalidData, match="no column topic"):
        data.groups("benchmark,topic")


def test_only_some_rows():
    data = Labelled(("p", "q", "r"), np.zeros(3), np.ones(3), {"benchmark": ("a", "b", "a")}, name="file")
    found = data.only("benchmark", "a")
    assert (found.prompts, found.name) == (("p", "r"), "a")
    with pytest.raises(InvalidData, match="no row has 'c' as its benchmark"):
        data.only("benchmark", "c")


def test_a_spread_sample_takes_of_every_group():
    rows = Labelled(
        tuple(f"p{n}" for n in range(12)),
        np.zeros(12),
        np.ones(12),
        {"benchmark": tuple("aaaaaaaaabbb")},
    )
    assert rows.spread(3, "benchmark").prompts == ("p0", "p4", "p8", "p9", "p10", "p11")
    assert rows.spread(99, "benchmark").prompts == rows.prompts
