"""`bench prefix`: what is measured of programs that start, ask and end, and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_router.bench.prefix import Started, bench_prefix, found, ratio
from edge_router.config.settings import Config
from edge_router.errors import GenerationFailed
from edge_router.store.prefixes import KIND
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress


def started(first: float, *, known: int = 0, text: str = "a") -> Started:
    return Started(first, first + 1, first / 2, 210, known, (text, "b"))


def test_ratios_are_of_medians_and_texts_have_to_be_the_same() -> None:
    kept, read = (
        [started(0.1, known=192), started(0.3), started(0.1)],
        [started(2.0), started(1.0), started(9.0)],
    )
    told = found("m", 4096, kept, read)
    assert ratio(told.times["since the question"]) == pytest.approx(0.05)
    assert ratio(told.times["since the program's start"]) == pytest.approx(1.1 / 3)
    assert told.same and (told.known, told.tokens) == (192, 210)
    first = told.to_dict()["first_token"]
    assert isinstance(first, dict) and first["of the processor"]["kept_ms"] == [50.0, 50.0, 150.0]
    assert not found("m", 1, kept, [*read, started(1.0, text="c")]).same


def test_two_programs_in_turns(built_home: Path) -> None:
    config = Config.load(environ={}, overrides={"weak.engine": "tvm", "weak.threads": 1})
    told = bench_prefix(config, Paths.under(built_home), 150, 1, SilentProgress())
    assert told.same and 0 < told.known < told.tokens and told.bytes > 0
    assert not (built_home / "artifacts" / KIND).exists()  # nothing of it stays


def test_a_program_that_fails_says_why(paths: Paths) -> None:
    config = Config.load(environ={}, overrides={"weak.build": False})
    with pytest.raises(GenerationFailed, match=r"ArtifactMissing|compile"):
        bench_prefix(config, paths, 150, 1, SilentProgress())
