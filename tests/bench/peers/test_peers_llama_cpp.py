"""llama-bench: what it is asked for, what it says, and where it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_router.bench.peers import llama_cpp
from edge_router.bench.peers.cases import DECODED, BenchCase
from edge_router.bench.peers.llama_cpp import LlamaBenchMissing, LlamaCpp, find, flags_of, native_flags, run
from edge_router.errors import GenerationFailed

TEST = {"build_commit": "0c1e570", "n_prompt": 512, "n_gen": 0, "flash_attn": 1, "avg_ts": 64.617179}


def batched(pp: int, pl: int, read: float, written: float) -> str:
    return json.dumps({"pp": pp, "tg": 64, "pl": pl, "speed_pp": read, "speed_tg": written})


def side(folder: Path, said: str) -> tuple[LlamaCpp, list[Sequence[str]]]:
    asked: list[Sequence[str]] = []

    def answer(command: Sequence[str]) -> str:
        asked.append(command)
        return said

    return LlamaCpp(folder / "llama-bench", folder / "m.gguf", 2, answer), asked


def test_one_sequence_is_llama_benchs_own_clock(tmp_path: Path) -> None:
    bench, asked = side(tmp_path, json.dumps([TEST]))
    assert bench.speed(BenchCase("prefill", 512)) == 64.617179 and bench.facts["build_commit"] == "0c1e570"
    bench.speed(BenchCase("decode", 0))
    bench.speed(BenchCase("decode", 4096))
    settings = "-t 2 -fa 1 -ngl 0 -r 1 -o json"
    assert [" ".join(command[3:]) for command in asked] == [
        f"-p 512 -n 0 {settings}",
        f"-p 0 -n {DECODED} {settings}",
        f"-p 0 -n {DECODED} -d 4096 {settings}",
    ]
    assert asked[0][:3] == [str(tmp_path / "llama-bench"), "-m", str(tmp_path / "m.gguf")]


def test_several_need_the_other_program_beside_it(tmp_path: Path) -> None:
    lines = "\n".join([batched(16, 4, 1, 2), "", batched(1024, 4, 300.5, 120.25), "llama_perf: nothing"])
    bench, asked = side(tmp_path, lines)
    assert bench.speed(BenchCase("prefill", 1024, 4)) is None and not asked
    (tmp_path / "llama-batched-bench").touch()
    assert bench.speed(BenchCase("prefill", 1024, 4)) == 300.5
    assert bench.speed(BenchCase("decode", 1024, 4)) == 120.25
    read, written = asked
    assert "-pps" not in read and "-pps" in written and "-npl 4" in " ".join(written)
    with pytest.raises(GenerationFailed, match="llama-batched-bench printed"):
        bench.speed(BenchCase("prefill", 512, 4))  # its last test was of another


def test_what_is_no_result_is_told(tmp_path: Path) -> None:
    for said in (
        "",
        "[]",
        "{}",
        json.dumps([{**TEST, "avg_ts": None}]),
        json.dumps([TEST, TEST]),
        "no model",
    ):
        bench, _ = side(tmp_path, said)
        with pytest.raises(GenerationFailed, match="llama-bench printed"):
            bench.speed(BenchCase("prefill", 512))


def test_a_program_that_fails_says_its_last_line() -> None:
    code = "import sys; sys.stderr.write('one\\nno such model\\n\\n'); sys.exit(1)"
    with pytest.raises(GenerationFailed, match="no such model"):
        run([sys.executable, "-c", code])
    with pytest.raises(GenerationFailed, match="ended with 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(GenerationFailed, match="no-such-program"):
        run(["no-such-program-anywhere"])
    assert run([sys.executable, "-c", "print('said')"]) == "said\n"


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for place in (None, tmp_path / "elsewhere"):
        with pytest.raises(LlamaBenchMissing, match="llama-bench is not") as caught:
            find(place)
        assert llama_cpp.BUILD in str(caught.value)
    assert find(Path(sys.executable)) == Path(sys.executable)


def test_the_instructions_it_was_built_for(tmp_path: Path) -> None:
    said = "CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | REPACK = 1 | "
    assert flags_of(said) == "SSE3 AVX2 REPACK" and flags_of("") is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    bench = tmp_path / "bin/llama-bench"
    assert native_flags(bench, lambda command: said) is None
    (tmp_path / "lib/libllama.so").touch()
    assert native_flags(bench, lambda command: said) == "SSE3 AVX2 REPACK"
    assert native_flags(bench) is None  # an empty file is no library
