"""Programs as JSON: they come back as they were, and whatever is wrong with a file is said."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import ArtifactCorrupt
from edge_router.webgpu_program import Program, read_program, write_program
from edge_router.webgpu_program.text import from_json, to_json


def test_there_and_back(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "program.json"
    write_program(program, file)
    assert read_program(file) == program


def changed(program: Program, path: str, value: object) -> dict[str, Any]:
    """`path` of keys and list indices, with slashes."""
    data: Any = copy.deepcopy(json.loads(json.dumps(to_json(program))))
    *before, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    place = data
    for key in before:
        place = place[key]
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("format", 99, "format 99"),
        ("vocab_size", 0, "0 where a positive"),
        ("vocab_size", True, "positive whole"),
        ("window", -1, "-1 where a whole number"),
        ("sinks", 4, "4 sinks in a window of 0"),
        ("buffers/table/kind", "carpet", "carpet"),
        ("buffers/table/stored", "int3", "int3"),
        ("buffers/table/bytes", -4, "-4"),
        ("buffers/keys/page_bytes", 0, "positive"),
        ("buffers/logits", {"kind": "control"}, "no buffer logits"),
        ("buffers/logits/row_bytes", 0, "positive"),
        ("functions/decode/launches/0/1", ["control", "table"], "other arguments"),
        ("functions/decode/launches/0/3", [], "other arguments"),
        ("functions/decode/launches/0/1/1", "carpet", "on carpet"),
        ("functions/decode/launches/0/2/0", "n * q", "depends on q"),
        ("functions/decode/scratch/x", "n ** 2", "more in it"),
        ("functions/decode/launches/0/0", "carpet", "carpet"),
        ("shaders/look", None, "TypeError"),
        ("functions", {}, "no function decode, decode_far, prefill, prefill_few, prefill_half, batch"),
        ("buffers", [], "AttributeError"),
    ],
)
def test_what_is_wrong_is_said(program: Program, tmp_path: Path, path: str, value: object, says: str) -> None:
    file = tmp_path / "program.json"
    file.write_text(json.dumps(changed(program, path, value)))
    with pytest.raises(ArtifactCorrupt, match=says) as caught:
        read_program(file)
    assert caught.value.path == file


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"null", b"{", b"[" * 100_000], ids=lambda content: repr(content[:9])
)
def test_a_file_that_is_no_program(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "program.json"
    file.write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match="not a program"):
        read_program(file)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match="FileNotFoundError"):
        read_program(tmp_path / "program.json")


@pytest.mark.parametrize("missing", ["format", "model", "vocab_size", "shaders", "buffers", "functions"])
def test_a_missing_part(program: Program, missing: str) -> None:
    data = to_json(program)
    del data[missing]
    with pytest.raises(KeyError):
        from_json(data)


def test_readers_need_no_more_than_the_text(program: Program) -> None:
    """What is written is plain JSON of readable parts."""
    data: Callable[..., Any] = json.loads(json.dumps(to_json(program)))
    assert data["functions"]["prefill"]["launches"][0] == [
        "look",
        ["control", "table", "x"],
        ["n * 2", 1, 1],
        ["n"],
    ]  # type: ignore[index]
    assert data["buffers"]["table"] == {
        "kind": "weight",
        "tensor": "model.embed",
        "bytes": 90,
        "stored": "raw",
        "rows": [0, 3],
    }  # type: ignore[index]
