from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_router.bench import weak as bench
from edge_router.bench.weak import bench_weak
from edge_router.bench.weak_results import Comparison, MedianRange, Speed, WeakBench
from edge_router.bench.weak_rounds import Prompts, side_process
from edge_router.config.settings import Config
from edge_router.engines.tvm import engine as bench_engine
from edge_router.errors import GenerationFailed, UnknownName
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress


@pytest.fixture
def config() -> Config:
    return Config().replace(**{"weak.threads": 1})


@pytest.fixture
def paths(built_home: Path) -> Paths:
    return Paths.under(built_home)


def test_what_is_measured_and_in_what_form(config: Config, paths: Paths) -> None:
    found = bench_weak(config, paths, progress=SilentProgress(), rounds=1)
    shown = found.to_dict()
    assert list(shown) == [
        *("device", "model", "threads", "prefill_tokens_per_s"),
        *("decode_tokens_per_s", "ttft_ms", "peak_bytes", "against", "python_ms"),
    ]
    assert (shown["model"], shown["threads"]) == ("SmolLM2-135M-Instruct", 1)
    assert found.quantization == "q4f16_1"
    assert set(found.speed.prefill) == {256, 512}
    assert found.python_ms is not None
    for measured in (*found.speed.prefill.values(), found.speed.decode, found.ttft_ms, found.python_ms):
        assert 0 < measured.low <= measured.median <= measured.high
    assert found.peak_bytes > 50_000_000


def test_two_formats_are_measured_in_turns(
    config: Config, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def built(config: Config, *rest: Any) -> Any:
        asked.append(config.weak.quantization)
        return real(config.replace(**{"weak.quantization": "q4f16_1"}), *rest)

    real = bench_engine.built
    monkeypatch.setattr(bench_engine, "built", built)
    found = bench_weak(config, paths, against="q0f16", progress=SilentProgress(), rounds=1)
    assert asked == [None, "q0f16"]
    other = found.against["q0f16"]
    ratio = found.speed.decode.median / other.speed.decode.median
    assert other.decode_ratio.median == pytest.approx(ratio)
    assert found.to_dict()["against"] == {
        "q0f16": {
            "prefill_ratio": {str(n): round(other.prefill_ratio[n].median, 3) for n in (256, 512)},
            "decode_ratio": round(ratio, 3),
        }
    }


def test_alone_it_needs_no_other_program(config: Config, paths: Paths) -> None:
    assert bench_weak(config, paths, progress=SilentProgress(), rounds=1).to_dict()["against"] == {}


def test_the_numbers_are_medians() -> None:
    measured = MedianRange.of([3.0, 1.0, 2.0])
    assert measured == MedianRange(2.0, 1.0, 3.0)
    speed = Speed({256: measured, 512: measured}, measured)
    found = WeakBench("cpu", "m", "q4f16_1", 2, speed, measured, 7, {})
    assert found.to_dict() == {
        "device": "cpu",
        "model": "m",
        "threads": 2,
        "prefill_tokens_per_s": {"256": 2.0, "512": 2.0},
        "decode_tokens_per_s": 2.0,
        "ttft_ms": 2.0,
        "peak_bytes": 7,
        "against": {},
    }
    beside = replace(found, against={"x": Comparison(speed, {256: MedianRange.of([1.23456])}, measured)})
    assert beside.to_dict()["against"] == {"x": {"prefill_ratio": {"256": 1.235}, "decode_ratio": 2.0}}


def test_prompts_have_the_asked_length_and_begin_differently(built_model: Any) -> None:
    prompts = Prompts.of(built_model.model_dir / "tokenizer.json")
    pieces = [prompts.next(length) for length in (256, 512, 32) for _ in range(bench.ROUNDS + 1)]
    lengths = [len(prompts.ids(piece)) for piece in pieces]
    assert lengths == [length for length in (256, 512, 32) for _ in range(bench.ROUNDS + 1)]
    assert len({tuple(prompts.ids(piece)[:8]) for piece in pieces}) == len(pieces)
    with pytest.raises(ValueError, match="no more pieces"):
        prompts.next(10**6)


def test_only_a_format_can_be_compared_with(paths: Paths) -> None:
    with pytest.raises(UnknownName, match="q4f16_1"):
        bench_weak(Config(), paths, against="ollama", progress=SilentProgress())


def test_a_side_that_breaks_says_why() -> None:
    with pytest.raises(GenerationFailed, match=r"other.*engines_of_nobody"):
        with side_process("other", {}, "engines_of_nobody") as side:
            side.ask("peak")
