"""A checkout of RouteLLM in small, in its own file formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from edge_router.errors import InvalidData
from edge_router.routing.evaluation import evaluate
from edge_router.routing.labels.reading import read_labelled

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


def table(file: Path, rows: list[dict[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def lines(file: Path, rows: list[dict[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    evals = tmp_path / "RouteLLM" / "routellm" / "evals"
    # The strong model's column comes first in one file: order says nothing.
    anatomy = [{"prompt": f"bone {i}", STRONG: True, WEAK: i % 2 == 0} for i in range(6)]
    law = [{"prompt": f"law {i}", WEAK: i > 2, STRONG: i > 0} for i in range(6)]
    table(evals / "mmlu" / "responses" / "mmlu_anatomy.csv", anatomy)
    table(evals / "mmlu" / "responses" / "mmlu_professional_law.csv", law)
    lines(
        evals / "mmlu" / "contaminated_prompts.jsonl", [{"eval_prompt": "law 5"}, {"eval_prompt": "bone 0"}]
    )
    sums = [
        {
            "prompt": f"sum, {i}",
            WEAK: i < 2,
            STRONG: True,
            f"{WEAK}_response": "a,\nb",
            f"{STRONG}_response": "c",
        }
        for i in range(4)
    ]
    table(evals / "gsm8k" / "gsm8k_responses.csv", sums)
    questions = [
        {"question_id": i, "category": "writing", "turns": [f"first {i}", f"second {i}"]} for i in range(3)
    ]
    lines(evals / "mt_bench" / "question.jsonl", questions)
    judgements = [
        {"question_id": i, "model": model, "turn": turn, "score": best - i - turn}
        for i in range(3)
        for model, best in ((WEAK, 8), (STRONG, 10))
        for turn in (1, 2)
    ]
    lines(evals / "mt_bench" / "judgements.jsonl", judgements)
    lines(evals / "mt_bench" / "contaminated_prompts.jsonl", [{"eval_prompt": "second 2"}])
    (evals / "mmlu" / "domains.py").touch()
    return tmp_path / "RouteLLM"


def test_a_checkout_is_its_three_benchmarks(checkout: Path) -> None:
    data = read_labelled(checkout)
    groups = data.groups("benchmark")
    assert {name: len(rows) for name, rows in groups.items()} == {"gsm8k": 4, "mmlu": 10, "mt_bench": 2}
    assert set(data.columns["weak_model"]) == {WEAK}
    assert set(data.columns["strong_model"]) == {STRONG}
    assert {"anatomy", "professional_law", "gsm8k", "writing"} == set(data.columns["domain"])


def test_what_their_training_data_contained_is_left_out(checkout: Path) -> None:
    prompts = read_labelled(checkout).prompts
    assert not {"law 5", "bone 0", "first 2"} & set(prompts)
    assert "bone 1" in prompts


def test_mt_bench_routes_on_the_first_turn_and_scores_both(checkout: Path) -> None:
    data = read_labelled(checkout / "routellm" / "evals" / "mt_bench")
    assert data.prompts == ("first 0", "first 1")
    assert data.weak.tolist() == [6.5, 5.5]
    assert data.strong.tolist() == [8.5, 7.5]


def test_it_can_be_evaluated_like_any_file(checkout: Path) -> None:
    data = read_labelled(checkout / "routellm" / "evals")
    found = evaluate(data, {"length": lambda texts: [len(t) for t in texts]}, resamples=10)
    assert found.groups["mmlu"]["oracle"].weak_quality == pytest.approx(0.4)
    assert set(evaluate(data, {}, by="domain", resamples=10).groups) >= {"anatomy", "professional_law"}


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="holds no benchmark of RouteLLM"):
        read_labelled(tmp_path)
    table(tmp_path / "mine.csv", [{"prompt": "p", "one": 1}])
    with pytest.raises(InvalidData, match="its columns are prompt, one"):
        read_labelled(tmp_path)


def test_a_third_model_is_one_too_many(checkout: Path) -> None:
    file = checkout / "routellm" / "evals" / "mt_bench" / "judgements.jsonl"
    extra = json.dumps({"question_id": 0, "model": "third", "turn": 1, "score": 1})
    file.write_text(file.read_text("utf-8") + extra + "\n", encoding="utf-8")
    with pytest.raises(InvalidData, match="the scores of 3 models"):
        read_labelled(checkout)


def test_a_question_without_a_judgement_is_dropped_and_said(checkout: Path) -> None:
    folder = checkout / "routellm" / "evals" / "mt_bench"
    kept = [
        row
        for row in (folder / "judgements.jsonl").read_text("utf-8").splitlines()
        if '"question_id": 1' not in row
    ]
    (folder / "judgements.jsonl").write_text("\n".join(kept), encoding="utf-8")
    data = read_labelled(folder)
    assert data.prompts == ("first 0",)
    assert data.warnings == ("mt_bench: 1 of 2 rows dropped for a missing score",)


def test_questions_without_turns_are_named(checkout: Path) -> None:
    file = checkout / "routellm" / "evals" / "mt_bench" / "question.jsonl"
    lines(file, [{"question_id": 1}])
    with pytest.raises(InvalidData, match="no column question_id or turns"):
        read_labelled(checkout)
