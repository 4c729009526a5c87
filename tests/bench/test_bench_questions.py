"""What typed questions cost beside reading and beside JSON: that all of it is measured, on the demo model."""

from __future__ import annotations

from pathlib import Path

from edge_router.bench.questions import bench_questions
from edge_router.config.settings import Config
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress


def test_what_is_measured(built_home: Path) -> None:
    settings = {"weak.engine": "tvm", "weak.device": "cpu", "weak.build": False}
    found = bench_questions(
        Config.load(environ={}, overrides=settings),
        Paths.under(built_home),
        progress=SilentProgress(),
        rounds=1,
        count=3,
        state_tokens=100,
    )
    assert found.questions == 3 and 60 < found.state_tokens < 140 and found.question_tokens > 30
    measured = (found.read, found.asked, found.written, found.kept_asked, found.short_read, found.short_asked)
    assert min(value.low for value in measured) > 0
    assert found.ratio.median == found.asked.median / found.read.median
    assert found.quicker.median == found.written.median / found.asked.median
    assert set(found.to_dict()) >= {"ratio", "quicker", "kept_quicker", "short_ratio"}
