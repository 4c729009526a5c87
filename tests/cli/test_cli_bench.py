"""`bench weak`: the JSON contract and the table; the measuring itself is tested where it is done."""

from __future__ import annotations

import json

import pytest

from edge_router.bench.peers.cases import BenchCase, Grid
from edge_router.bench.peers.machine import BenchMachine
from edge_router.bench.peers.results import PeerBench, ResultTable, Row
from edge_router.bench.tune import Trial
from edge_router.bench.weak_results import SHORT, Comparison, MedianRange, Speed, WeakBench
from edge_router.cli.chat import building
from edge_router.engines.webgpu.profile import Profile


def speed(scale: float) -> Speed:
    return Speed(
        {256: MedianRange(400 * scale, 390 * scale, 410 * scale), 512: MedianRange(380 * scale, 1, 2)},
        MedianRange(100 * scale, 90 * scale, 110 * scale),
    )


@pytest.fixture
def measured(monkeypatch):
    """What was asked for; without a comparison unless one is asked for."""
    asked = []

    def bench_weak(config, paths, *, against, progress, rounds, lengths, random):
        asked.append((config, against, rounds))
        ratio = MedianRange(2.0, 1.9, 2.1)
        compared = Comparison(speed(0.5), {256: ratio, 512: ratio}, MedianRange(1.25, 1.2, 1.3))
        return WeakBench(
            device="Some CPU",
            model="SmolLM2-135M-Instruct",
            quantization="q4f16_1",
            threads=2,
            speed=speed(1),
            ttft_ms=MedianRange(33, 30, 40),
            peak_bytes=250_000_000,
            against={against: compared} if against else {},
        )

    monkeypatch.setattr("edge_router.bench.weak.bench_weak", bench_weak)
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    return asked


def test_json_is_the_contract(cli, measured):
    done = cli("bench", "weak", "--json", "--against", "q0f16", "--threads", "2", "--rounds", "3")
    report = json.loads(done.out)
    assert done.code == 0 and set(report) == {
        *("device", "model", "threads", "prefill_tokens_per_s", "decode_tokens_per_s", "ttft_ms"),
        *("peak_bytes", "against"),
    }
    assert set(report["prefill_tokens_per_s"]) == {"256", "512"}
    ratios = {"prefill_ratio": {"256": 2.0, "512": 2.0}, "decode_ratio": 1.25}
    assert report["against"] == {"q0f16": ratios}
    ((config, against, rounds),) = measured
    assert (config.weak.threads, against, rounds) == (2, "q0f16", 3)


def test_the_table_names_the_machine_and_the_model(cli, measured):
    lines = cli("bench", "weak").out.splitlines()
    assert lines[0] == "SmolLM2-135M-Instruct (q4f16_1) on Some CPU, 2 threads"
    assert lines[2].split() == ["prefill", "of", "256,", "tokens/s", "400", "390", "410"]
    assert lines[-1].split() == ["memory", "at", "most", "238", "MiB"]


def test_the_table_with_a_comparison(cli, measured):
    lines = cli("bench", "weak", "--against", "q0f16").out.splitlines()
    assert "ratio to q0f16" in lines[1]
    assert lines[2].split()[-2:] == ["200", "2.00"] and lines[4].split()[-2:] == ["50", "1.25"]


@pytest.fixture
def peers(monkeypatch):
    """What was asked for beside other programs."""
    asked = []

    def bench_peers(config, paths, wanted, *, random, sizes, progress):
        asked.append((wanted, config.weak.threads, random, sizes))
        case, one = BenchCase("decode", 0), MedianRange(2, 1, 3)
        row = Row(case, 2, one, {"llama.cpp Q4_0": one}, "llama.cpp Q4_0", MedianRange(0.9, 0.8, 1))
        table = ResultTable("SmolLM2-135M-Instruct", "q4f16_1", False, [row], {2: 17e9})
        return PeerBench(BenchMachine("Some CPU", "AVX2", 2, "abc"), 5, {"llama.cpp": "AVX2"}, [table])

    monkeypatch.setattr("edge_router.bench.peers.run.bench_peers", bench_peers)
    monkeypatch.setattr(
        "edge_router.engines.tvm.engine.thread_count", lambda config, paths: config.weak.threads or 2
    )
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    return asked


def test_beside_other_programs_the_least_favourable_ratio_comes_first(cli, peers):
    both = ("--against", "llama.cpp", "--against", "openvino")
    lines = cli("bench", "weak", *both).out.splitlines()
    assert lines[0].startswith("Least favourable: 0.90") and lines[-1].startswith(
        "| decode at 0, 2 threads |"
    )
    report = json.loads(cli("bench", "weak", *both, "--json", "--sizes", "--threads", "1").out)
    assert report["tables"][0]["rows"][0]["ratio"]["median"] == 0.9
    (usual, _, _, sizes), (other, threads, _, more) = peers
    assert (usual.against, usual.threads, usual.grid, usual.rounds) == (list(both[1::2]), (1, 2), Grid(), 5)
    assert (other.threads, threads, sizes, more) == ((1,), 1, False, True)


def test_which_lengths_are_measured_beside_other_programs(cli, peers, tmp_path):
    given = ("--prefill", "512,128,512", "--depth", "0, 64", "--batch", "2", "--rounds", "3", "--random")
    place = str(tmp_path / "llama-bench")
    assert cli("bench", "weak", "--against", "llama.cpp", "--llama-bench", place, *given).code == 0
    ((wanted, _, random, _),) = peers
    assert (wanted.grid, wanted.rounds, str(wanted.bench)) == (Grid((128, 512), (0, 64), (2,)), 3, place)
    assert random
    assert cli("bench", "weak", "--against", "llama.cpp", "--short", "--prefill", "").code == 0
    assert peers[-1][0].grid == Grid((), (0, 1024), (1,))
    for name, wrong in (("--prefill", "0"), ("--depth", "-1"), ("--batch", "two"), ("--batch", "0,1")):
        done = cli("bench", "weak", "--against", "llama.cpp", name, wrong)
        assert done.code == 1 and "list of numbers" in done.err, (name, wrong)


def test_programs_that_are_not_there(cli, monkeypatch):
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    monkeypatch.setattr("edge_router.engines.tvm.engine.thread_count", lambda config, paths: 1)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("edge_router.bench.peers.run.find_spec", lambda name: None)
    done = cli("bench", "weak", "--against", "llama.cpp")
    assert done.code == 1 and "llama-bench is not on the PATH" in done.err and "--llama-bench" in done.err
    done = cli("bench", "weak", "--against", "openvino")
    assert done.code == 1 and done.err.rstrip().endswith("python -m pip install 'edge-router[bench]'")
    for both in (("q0f16", "llama.cpp"), ("q0f16", "q3f16_1")):
        done = cli("bench", "weak", "--against", both[0], "--against", both[1])
        assert done.code == 1 and "at a time" in done.err, both
    done = cli("bench", "weak", "--against", "nobody")
    assert done.code == 2 and "openvino" in done.err


def test_another_model_is_asked_about_first(cli, measured, known_processor, monkeypatch):
    monkeypatch.setattr(building, "is_ready", lambda config, paths: False)
    done = cli("bench", "weak", "--model", "Qwen3-0.6B")
    assert done.code == 1 and "edge-router compile Qwen3-0.6B" in done.err and not measured


def test_a_gpu_shows_where_a_token_goes(cli, monkeypatch):
    asked = []

    def bench_weak(config, paths, **options):
        asked.append((config.weak.device, options["lengths"]))
        gpu = Profile(
            "GeForce (vulkan)", 152, 256, 0.31, 0.25, gpu_ms, 76_000_000, {"matvec": 0.6, "take": 0.2}
        )
        measured = MedianRange(1, 1, 1)
        return WeakBench("GeForce (vulkan)", "m", "q4f16_1", 2, speed(1), measured, 1000, {}, gpu)

    monkeypatch.setattr("edge_router.bench.weak.bench_weak", bench_weak)
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    gpu_ms = 0.8
    text = cli("bench", "weak", "--device", "vulkan", "--short").out
    assert asked == [("vulkan", SHORT)] and text.startswith("m (q4f16_1) on GeForce (vulkan)\n")
    rows = [line.split() for line in text.splitlines()]
    assert ["launches", "152"] in rows and ["matvec", "0.600", "75%"] in rows
    assert any(row[-3:] == ["0.80", "95", "GB/s"] for row in rows)
    assert json.loads(cli("bench", "weak", "--device", "vulkan", "--json").out)["gpu"]["gpu_ms"] == 0.8
    gpu_ms = None
    assert "not told by this adapter" in cli("bench", "weak", "--device", "vulkan").out


def test_shaders_in_other_layouts(cli, monkeypatch):
    def tune(config, paths, progress):
        assert config.weak.device == "vulkan"
        trials = [
            Trial("matvec_9", "64 threads", 1e-6, 4000, False),
            Trial("matvec_9", "128 threads", 2e-6, 4000, True),
        ]
        return "GeForce (vulkan)", trials

    monkeypatch.setattr("edge_router.bench.tune.tune", tune)
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    command = ("bench", "weak", "--device", "vulkan", "--tune")
    first, *_, fastest, used = cli(*command).out.splitlines()
    assert first.startswith("Shaders on GeForce (vulkan)")
    assert fastest.split() == ["matvec_9", "64", "threads", "1.0", "4.0"]
    assert used.split() == ["*", "128", "threads", "2.0", "2.0"]
    found = json.loads(cli(*command, "--json").out)
    assert found["adapter"] == "GeForce (vulkan)" and len(found["trials"]) == 2


@pytest.mark.integration
def test_the_server(cli):
    done = cli("bench", "server", "--rounds", "2", "--clients", "2")
    assert "over HTTP, the whole answer" in done.out and "for 2 clients at once" in done.out
    found = json.loads(cli("bench", "server", "--rounds", "2", "--json").out)
    assert found["n"] == 2 and found["clients"] == 4 and found["p50_ms"] > 0
