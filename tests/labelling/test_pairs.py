"""Both models on the user's own prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_router.api.client import Controller
from edge_router.chat.request import ChatRequest
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import (
    ContextOverflow,
    InvalidData,
    InvalidInput,
    StrongFailed,
    StrongNotConfigured,
    StrongUnreachable,
)
from edge_router.labelling.pairs import Labelling, LabelTask, dearest, label_tasks, read_output, read_tasks
from edge_router.routing.labels.reading import read_labelled
from edge_router.routing.thresholds.prices import Prices

PRICES = Prices(1000.0, 10_000.0)  # a word in is 0.001, a word out 0.01
SUMS = tuple(LabelTask(f"What is {n} + {n}?", str(2 * n)) for n in range(1, 7))


def right(request: ChatRequest) -> str:
    n = int(request.messages[-1].text.split()[2])
    return f"It is {2 * n}"


def pair(*strong: object, weak: object = "It is 2") -> Controller:
    """The weak model only knows 1 + 1."""
    return Controller(
        weak=ScriptedEngine(model_id="small", default=weak),  # type: ignore[arg-type]
        strong=ScriptedEngine(*strong, model_id="big", default=right),  # type: ignore[arg-type]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "out" / "pairs.jsonl"


def test_both_models_are_judged_and_the_file_is_what_adapting_reads(file: Path) -> None:
    with pair() as controller:
        found = label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
    assert found.scores == ((1, 1), *[(0, 1)] * 5) and (found.new, found.left) == (6, 0)
    data = read_labelled(file)
    assert data.prompts == tuple(task.prompt for task in SUMS) and data.warnings == ()
    assert data.weak.tolist() == [1, 0, 0, 0, 0, 0] and data.strong.tolist() == [1] * 6
    assert found.cost == pytest.approx(6 * (5 * 0.001 + 3 * 0.01))
    assert found.to_dict()["weak_quality"] == 0.1667


def test_a_run_that_ended_early_goes_on(file: Path) -> None:
    with pair(right, right, StrongUnreachable("http://x", "no route")) as controller:
        with pytest.raises(StrongUnreachable):
            label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
        assert len(list(read_output(file))) == 2
        found = label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
        assert (found.new, len(found.scores)) == (4, 6)
        again = label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
    assert (again.new, again.scores) == (0, found.scores)


def test_what_was_paid_before_ctrl_c_counts_and_the_prompt_is_asked_again(file: Path) -> None:
    def stop(request: ChatRequest) -> str:
        raise KeyboardInterrupt

    with pair(weak=stop) as controller, pytest.raises(KeyboardInterrupt):
        label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
    (row,) = read_output(file)
    assert row.problem == "unfinished" and row.cost == pytest.approx(0.035)
    with pair() as controller:
        found = label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
    assert len(found.scores) == 6 and found.cost == pytest.approx(7 * 0.035) and found.problems == ()
    assert len(read_labelled(file)) == 6


def test_half_a_line_is_cut_off(file: Path) -> None:
    with pair() as controller:
        label_tasks(controller, SUMS[:2], Labelling("exact", file))
        file.write_text(file.read_text(encoding="utf-8") + '{"prompt": "Wha', encoding="utf-8")
        found = label_tasks(controller, SUMS, Labelling("exact", file))
    assert len(found.scores) == 6 and found.cost == 0


def test_the_cap_is_never_passed_and_holds_for_all_runs_together(file: Path) -> None:
    how = Labelling("exact", file, PRICES, budget=2.0, max_tokens=20)
    assert 0.5 < dearest(SUMS[0], how) < 1
    with pair() as controller:
        many = [LabelTask(f"What is {n} + {n}?", str(2 * n)) for n in range(1, 100)]
        first = label_tasks(controller, many, how)
        assert 0 < first.new < 99 and first.left == 99 - first.new and 1.0 < first.cost <= 2.0
        second = label_tasks(controller, many, how)
        assert second.new == 0 and second.cost == first.cost
        roomier = label_tasks(controller, many, Labelling("exact", file, PRICES, budget=2.1, max_tokens=20))
        assert roomier.new > 0 and roomier.cost <= 2.1


def test_a_cap_without_prices_is_refused(file: Path) -> None:
    with pair() as controller, pytest.raises(InvalidInput, match="prices"):
        label_tasks(controller, SUMS, Labelling("exact", file, budget=1.0))


@pytest.mark.parametrize("error", [ContextOverflow(9, 8), StrongFailed("http://x", 400, "no")])
def test_a_prompt_that_cannot_be_answered_is_left_out(file: Path, error: Exception) -> None:
    with pair(right, error) as controller:
        found = label_tasks(controller, SUMS, Labelling("exact", file, PRICES))
    assert len(found.scores) == 5 and len(found.problems) == 1 and SUMS[1].prompt in found.problems[0]
    data = read_labelled(file)
    assert len(data) == 5 and "1 of 6 rows dropped" in data.warnings[0]


def test_other_refusals_end_the_run(file: Path) -> None:
    with pair(StrongFailed("http://x", 500, "no")) as controller, pytest.raises(StrongFailed):
        label_tasks(controller, SUMS, Labelling("exact", file))
    assert not file.exists()


def test_without_a_strong_model_the_weak_one_is_not_asked(file: Path) -> None:
    weak = ScriptedEngine(model_id="small")
    with Controller(weak=weak) as controller, pytest.raises(StrongNotConfigured):
        label_tasks(controller, SUMS, Labelling("exact", file))
    assert weak.calls == []


def test_the_strong_model_compares(file: Path) -> None:
    def judge(request: ChatRequest) -> str:
        asked = request.messages[-1].text
        if "Two assistants" not in asked:
            return "good"
        if "tie?" in asked:
            return "TIE"
        return "A" if asked.index("good") < asked.index("bad") else "B"

    tasks = tuple(LabelTask(text) for text in ("one", "two", "a tie?", "three"))
    weak, strong = ScriptedEngine(default="bad"), ScriptedEngine(default=judge)
    with Controller(weak=weak, strong=strong) as controller:
        found = label_tasks(controller, tasks, Labelling("strong", file, PRICES))
    assert found.scores == ((0, 1), (0, 1), (1, 1), (0, 1))
    assert len(strong.calls) == 8 and found.cost > 0
    babble = ScriptedEngine(default="good, I think")
    with Controller(weak=ScriptedEngine(default="bad"), strong=babble) as controller:
        other = label_tasks(controller, [*tasks, LabelTask("four")], Labelling("strong", file, PRICES))
    assert len(other.problems) == 1 and "neither A, B nor TIE" in other.problems[0]


def test_another_judge_or_other_models_need_another_file(file: Path) -> None:
    with pair() as controller:
        label_tasks(controller, SUMS[:2], Labelling("exact", file))
        with pytest.raises(InvalidData, match="judged otherwise"):
            label_tasks(controller, SUMS, Labelling("choice", file))
    with (
        Controller(weak=ScriptedEngine(model_id="tiny"), strong=ScriptedEngine(default=right)) as controller,
        pytest.raises(InvalidData, match="other models"),
    ):
        label_tasks(controller, SUMS, Labelling("exact", file))
    assert len(list(read_output(file))) == 2
    file.write_text("{}\n", encoding="utf-8")
    with pair() as controller, pytest.raises(InvalidData, match="line 1"):
        label_tasks(controller, SUMS, Labelling("exact", file))


def test_tasks_are_read_once_each(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"prompt": "a", "answer": 3}, {"prompt": "a", "answer": 3}, {"prompt": "b", "answer": ""}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_tasks(file, "exact") == (LabelTask("a", "3"),)
    assert read_tasks(file, "strong") == (LabelTask("a"), LabelTask("b"))
    with pytest.raises(InvalidData, match="no column solution"):
        read_tasks(file, "choice", "solution")
    file.write_text(json.dumps({"prompt": "a", "answer": None}), encoding="utf-8")
    with pytest.raises(InvalidData, match="no row has a prompt and its answer"):
        read_tasks(file, "exact")
