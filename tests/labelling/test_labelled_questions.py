"""Labelled questions: files that hold them, what is wrong with others, and what the weak model makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from table import each

from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import InvalidData
from edge_router.labelling.labelled_questions import measure, read_labelled
from edge_router.types import SilentProgress

ROWS = [
    {"state": "I was charged twice.", "type": "choice", "criteria": {"billing": None, "sales": None}, "answer": "sales"},
    {
        "state": {"mail": "Now!"},
        "questions": {
            "urgent": {"type": "noul", "instructions": "Is it?"},
            "anger": {"type": "score", "criteria": ["calm", "annoyed", "furious"]},
            "mood": {"type": "score", "criteria": ["low", "high"]},
        },
        "answers": {"urgent": True, "anger": 2, "mood": "low"},
    },
]  # fmt: skip


def written(tmp_path: Path, *rows: object) -> Path:
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return file


def test_both_forms_are_read_and_measured(tmp_path: Path) -> None:
    labelled = read_labelled(written(tmp_path, *ROWS))
    assert [each.right for each in labelled] == [(1,), (1, 2, 0)]
    engine = ScriptedEngine(
        judge=lambda inquiry, question: (0.1, 0.9) if question.size == 2 else (0.2, 0.6, 0.2)
    )
    seen = list(measure(engine, labelled, SilentProgress()))
    assert [(each.kind, each.right) for each in seen] == [
        ("choice", True),
        ("yes_no", True),
        ("scale", False),
        ("scale", False),
    ]
    assert seen[0].confidence == pytest.approx(0.8)


@each(
    "row, told",
    [
        ("{", "line 1"),
        ({**ROWS[0], "answer": "other"}, "must be one of: billing, sales"),
        ({**ROWS[0], "answer": None}, "must be one of"),
        ({**ROWS[0], "state": None}, "state"),
        ({**ROWS[0], "criteria": {}}, "criteria"),
        ({**ROWS[1], "answers": {"urgent": "yes", "anger": 0, "mood": 0}}, "must be true or false"),
        ({**ROWS[1], "answers": {"urgent": True, "anger": 3, "mood": 0}}, "must be one of: calm"),
        ({**ROWS[1], "answers": {"urgent": True, "anger": True, "mood": 0}}, "must be one of: calm"),
        ({**ROWS[1], "answers": [True]}, "answers must be an object"),
        ("", "must hold 1 to"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, row: object, told: str) -> None:
    with pytest.raises(InvalidData, match=told):
        read_labelled(written(tmp_path, row))
