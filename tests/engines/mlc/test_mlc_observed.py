"""What mlc_llm was seen to do (../shared/facts/mlc.md), of its stand-in and, in the lane mlc, of the real one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edge_router.engines.tvm.engine import built
from edge_router.mlc_python import mlc_python
from edge_router.types import SilentProgress

PROGRAM = Path(__file__).with_name("observed.py")
SEEN: dict[str, Any] = {
    "a context above the compiled one": range(128, 257),  # clipped, and not said; ours is for 256
    "tokens behind 100 without a page more": range(11, 17),
    "a prompt as long as the context": ["", "length", [0, 0]],
    "a longer one": re.compile("BadRequestError: .*129 tokens in total, larger than .* limit 128"),
    "completions name a token": ["the"],  # " the"
    "_generate has its bytes": list(b" the"),
    "the end token has a log probability and counts": [["<|im_end|>"], "stop", [1, 1]],
    "at temperature 0 log probabilities are 0": [0.0],
    "at temperature 1 they are below": True,
    "an aborted answer has no end": True,
    "six likeliest tokens": [True, re.compile("5")],  # it waits for ever
    "fields of EngineConfig": 24,
    "a conv_template that is a name": "ValidationError",
    "no tensor-cache.json": [True, re.compile("tensor-cache.json")],
    "a library of an unknown kind": [True, re.compile("tar")],
    "a chunk above the compiled one": [True, re.compile("512")],
}


def test_what_was_seen_is_what_it_does(place: Any, tmp_path: Path) -> None:
    compiled = built(place.config, place.paths, SilentProgress())
    folder = shutil.copytree(compiled.model_dir, tmp_path / "model")
    python = mlc_python(place.config.mlc.python)
    done = subprocess.run(
        python.command([str(PROGRAM), str(folder), str(compiled.library)]),
        env=python.environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == list(SEEN)
    wrong = {name: value for name, value in found.items() if not _as(value, SEEN[name])}
    assert not wrong


def _as(value: Any, seen: Any) -> bool:
    if isinstance(seen, re.Pattern):
        return seen.search(value) is not None
    if isinstance(seen, range):
        return value in seen
    if isinstance(seen, list):
        return len(value) == len(seen) and all(map(_as, value, seen))
    return bool(value == seen)
