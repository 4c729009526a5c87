"""Cases, rounds and ratios, with scripted sides."""

from __future__ import annotations

import pytest

from edge_router.bench.peers.cases import DECODED, BenchCase, Grid
from edge_router.bench.peers.machine import BenchMachine, decode_limit, instructions
from edge_router.bench.peers.results import PeerBench, ResultTable, Row, comparisons, rows
from edge_router.bench.peers.rounds import in_turns
from edge_router.bench.weak_results import MedianRange
from edge_router.errors import GenerationFailed
from edge_router.types import SilentProgress
from edge_router.vram.shapes import ModelShape

READ, WRITTEN, FOUR = BenchCase("prefill", 512), BenchCase("decode", 0), BenchCase("decode", 1024, 4)
HERE = BenchMachine("Some CPU", "AVX2", 2, "abc1234")


class ScriptedSide:
    """Says a speed for each case, and remembers when it was asked; an exception is raised."""

    def __init__(self, name: str, asked: list[tuple[str, BenchCase]], **speeds: object) -> None:
        self._name, self._asked, self._speeds = name, asked, speeds

    def speed(self, case: BenchCase) -> float | None:
        self._asked.append((self._name, case))
        said = self._speeds[case.kind]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, list):
            return float(said.pop(0))
        assert said is None or isinstance(said, float)
        return said


def taken(rounds: int, **sides: dict[str, object]):
    asked: list[tuple[str, BenchCase]] = []
    scripted = {name: ScriptedSide(name, asked, **speeds) for name, speeds in sides.items()}
    with SilentProgress().step("measure") as step:
        speeds, failed = in_turns(scripted, [READ, WRITTEN], rounds, step, ours="ours")
    return speeds, failed, asked


def test_a_grid_has_every_case_once() -> None:
    cases = list(Grid().cases())
    assert len(set(cases)) == len(cases) == 2 * (4 + 3)
    assert Grid().context == 4096 + DECODED
    assert (FOUR.tokens, FOUR.context, FOUR.name) == (
        4 * DECODED,
        1024 + DECODED,
        "decode at 1024, 4 at once",
    )
    assert (READ.tokens, READ.context, READ.name) == (512, 512, "prefill 512")


def test_sides_take_turns_within_each_case() -> None:
    speeds, failed, asked = taken(
        2, ours={"prefill": 1.0, "decode": 2.0}, other={"prefill": 3.0, "decode": None}
    )
    first = [("ours", READ), ("other", READ), ("ours", WRITTEN), ("other", WRITTEN)]
    second = [("other", READ), ("ours", READ), ("other", WRITTEN), ("ours", WRITTEN)]
    assert asked == first + second and not failed
    assert speeds == {READ: {"ours": [1.0, 1.0], "other": [3.0, 3.0]}, WRITTEN: {"ours": [2.0, 2.0]}}


def test_another_program_that_fails_loses_that_case_only() -> None:
    wrong = GenerationFailed("other", "no such instruction")
    speeds, failed, asked = taken(
        2, ours={"prefill": 1.0, "decode": 2.0}, other={"prefill": wrong, "decode": 4.0}
    )
    assert speeds == {READ: {"ours": [1.0, 1.0]}, WRITTEN: {"ours": [2.0, 2.0], "other": [4.0, 4.0]}}
    assert list(failed) == [("other", READ)] and "no such instruction" in failed["other", READ]
    assert asked.count(("other", READ)) == 1
    with pytest.raises(GenerationFailed):
        taken(1, ours={"prefill": wrong, "decode": 2.0}, other={"prefill": 1.0, "decode": 1.0})


def test_a_ratio_is_formed_within_rounds_to_the_best_of_the_others() -> None:
    speeds = {
        READ: {"ours": [10.0, 30.0, 20.0], "slow": [5.0, 5.0, 5.0], "quick": [20.0, 20.0, 5.0]},
        WRITTEN: {"ours": [1.0]},
        FOUR: {"slow": [1.0]},
    }
    (row,) = rows(speeds, 2, "ours", {READ: 40.0})
    assert row.best == "quick" and row.ratio == MedianRange(1.5, 0.5, 4.0)
    assert set(row.others) == {"slow", "quick"} and row.memory_share == 0.5


def row(case: BenchCase, ours: float, threads: int = 2, limit: float | None = None, **others: float) -> Row:
    best = max(others, key=lambda name: others[name])
    ratio = MedianRange.of([ours / others[best]])
    found = {name: MedianRange.of([value]) for name, value in others.items()}
    return Row(case, threads, MedianRange.of([ours]), found, best, ratio, limit)


def test_the_least_favourable_ratio_stands_first() -> None:
    demo = ResultTable(
        "demo", "q4f16_1", False, [row(READ, 300, a=100, b=200), row(WRITTEN, 90, a=100)], {2: 17e9}
    )
    large = ResultTable(
        "large",
        "q4f16_1",
        True,
        [row(READ, 10, a=5), row(FOUR, 8, 1, 10, b=10)],
        {1: 9e9, 2: 17e9},
        ["b: why"],
    )
    found = PeerBench(HERE, 5, {"a": "version 1"}, [demo, large])
    lines = found.markdown().splitlines()
    assert lines[0] == "Least favourable: 0.80 [0.80, 0.80] of b, large, decode at 1024, 4 at once, 1 thread"
    assert "Some CPU, AVX2, 2 cores; commit abc1234; medians of 5 rounds" in lines[1]
    assert lines[2] == "a: version 1"
    cells = [line.split(" | ")[0] for line in lines if line.startswith(("| prefill", "| decode"))]
    assert cells == [
        *("| decode at 0, 2 threads", "| prefill 512, 2 threads"),
        *("| decode at 1024, 4 at once, 1 thread", "| prefill 512, 2 threads"),
    ]
    assert (
        "large (q4f16_1), random weights of its shape; memory read at 9.0 GB/s by 1 thread"
        in found.markdown()
    )
    assert "| 80% |" in found.markdown() and lines[-1] == "b: why"
    widths = {line.count("|") for line in demo.markdown().splitlines() if line.startswith("|")}
    assert len(widths) == 1

    report = found.to_dict()
    assert report["machine"] == {
        "processor": "Some CPU",
        "instructions": "AVX2",
        "cores": 2,
        "commit": "abc1234",
    }
    first = report["tables"][0]["rows"][0]
    assert (first["kind"], first["length"], first["threads"], first["best"]) == ("decode", 0, 2, "a")
    assert first["ratio"] == {"median": 0.9, "low": 0.9, "high": 0.9}


def test_nothing_measured_is_no_error() -> None:
    found = PeerBench(HERE, 1, {}, [ResultTable("m", "q4f16_1", False, [], {})])
    assert found.least is None and found.markdown().startswith("Some CPU")


def test_each_program_counts_with_the_best_of_its_sides() -> None:
    quick, slow = "llama.cpp Q4_0", "llama.cpp Q4_1 as it is"
    found = [
        row(BenchCase("prefill", 256), 400, **{quick: 200, slow: 100, "openvino": 800}),
        row(WRITTEN, 50, **{quick: 40, slow: 50, "openvino": 10}),
        row(FOUR, 1, **{quick: 9}),
        row(BenchCase("decode", 1024), 1, **{quick: 9}),
    ]
    made = comparisons(found, {"llama.cpp": [quick, slow], "openvino": ["openvino"], "none": []})
    assert set(made) == {"llama.cpp", "openvino"}
    assert made["llama.cpp"].prefill_ratio[256].median == 2 and made["llama.cpp"].decode_ratio.median == 1
    assert made["openvino"].prefill_ratio[256].median == 0.5 and made["openvino"].decode_ratio.median == 5


def test_what_the_memory_allows() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 256,
        "tie_word_embeddings": True,
    }
    shape = ModelShape.of(config, "m")
    alone = decode_limit(shape, "q4f16_1", 0, 1, 1e9)
    assert decode_limit(shape, "q4f16_1", 0, 4, 1e9) == pytest.approx(4 * alone)  # weights are read once
    kept = 2 * 2 * 2 * 16 * 2  # keys and values, layers, heads, head size, bytes of float16
    assert 1e9 / decode_limit(shape, "q4f16_1", 100, 1, 1e9) == pytest.approx(1e9 / alone + 100 * kept)
    assert decode_limit(shape, "q4f16_1", 100, 4, 1e9) < 4 * decode_limit(shape, "q4f16_1", 0, 1, 1e9)


def test_instructions_are_named_as_people_do() -> None:
    given = {
        (16, "vnni"): "AVX-512-VNNI",
        (16, "pairs"): "AVX-512",
        (8, "vnni"): "AVX-VNNI",
        (8, "pairs"): "AVX2",
    }
    for (lanes, dot), name in {**given, (4, "pairs"): "SSE"}.items():
        assert instructions(False, lanes, dot) == name, (lanes, dot)
    assert instructions(True, 4, "float") == "NEON"
