"""Our engine itself beside scripted programs: the files they get, the table that comes of it."""

from __future__ import annotations

import importlib.util
import os
import sys
import textwrap
from pathlib import Path

import pytest

from edge_router.bench.peers.cases import BenchCase, Grid
from edge_router.bench.peers.run import Wanted, bench_peers
from edge_router.bench.weak_results import Lengths
from edge_router.config.settings import Config
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

pytestmark = pytest.mark.integration

PROGRAM = """
    import json, sys
    given = dict(zip(sys.argv[1::1], sys.argv[2::1]))
    assert open(given["-m"], "rb").read(4) == b"GGUF" and given["-t"] == "1"
    if "-npp" in given:
        print(json.dumps({"pp": int(given["-npp"].split(",")[-1]), "pl": int(given["-npl"]), "speed_pp": 100, "speed_tg": 50}))
    else:
        print(json.dumps([{"avg_ts": 1000.0 if given["-n"] == "0" else 10.0}]))
"""
GENAI = """
    import pathlib
    class GenerationConfig:
        pass
    class TokenizedInputs:
        def __init__(self, ids, mask):
            assert ids.shape == mask.shape
            self.shape = ids.shape
    class Mean:
        def __init__(self, mean):
            self.mean = mean
    class Result:
        def __init__(self, shape, config):
            assert config.ignore_eos and not config.do_sample and not config.apply_chat_template
            self.perf_metrics, self.count = self, config.max_new_tokens
        def get_ttft(self):
            return Mean(1.0)
        def get_generate_duration(self):
            return Mean(1.0 + 10 * (self.count - 1))
    class LLMPipeline:
        def __init__(self, file, device, **properties):
            assert pathlib.Path(file).read_bytes()[:4] == b"GGUF" and device == "CPU"
            if properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"]:
                raise RuntimeError("no such property here")
        def generate(self, inputs, config):
            print("a library that writes to standard output")
            return Result(inputs.shape, config)
"""


@pytest.fixture
def llama_bench(tmp_path: Path) -> Path:
    """Both of llama.cpp's programs, which answer at once."""
    if os.name == "nt":
        pytest.skip("a script is no program on Windows")
    for name in ("llama-bench", "llama-batched-bench"):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(PROGRAM)}")
        (tmp_path / name).chmod(0o755)
    return tmp_path / "llama-bench"


@pytest.fixture
def openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of these names, for this process and those it starts; one of the two settings fails."""
    folder = tmp_path / "packages"
    for name, code in (("openvino_genai", GENAI), ("openvino", "def Tensor(numbers): return numbers")):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(textwrap.dedent(code))
    (folder / "openvino_genai-9.9.dist-info").mkdir()
    described = "Metadata-Version: 2.1\nName: openvino-genai\nVersion: 9.9\n"
    (folder / "openvino_genai-9.9.dist-info" / "METADATA").write_text(described)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def tiny(tmp_path: Path) -> Config:
    """Of a folder with the shape of a tiny Llama; its weights are never looked at."""
    file = Path(__file__).parents[2] / "compile/tiny_llama.py"
    spec = importlib.util.spec_from_file_location("tiny_llama_for_peers", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules["tiny_llama_for_peers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = module.make(tmp_path / "tiny").folder
    return Config().replace(**{"weak.model": str(folder), "weak.threads": 1, "weak.device": "cpu"})


@pytest.mark.usefixtures("openvino")
def test_drawn_weights_beside_both_programs(tiny: Config, paths: Paths, llama_bench: Path) -> None:
    wanted = Wanted(
        ("llama.cpp", "openvino"), (1,), Grid((16,), (0, 24), (1, 3)), 2, llama_bench, Lengths((16,), 4)
    )
    found = bench_peers(tiny, paths, wanted, random=True, progress=SilentProgress())
    (table,) = found.tables
    assert table.random and table.bandwidth[1] > 1e8
    assert found.programs["openvino"].startswith("GenAI 9.9")
    rows = {row.case: row for row in table.rows}
    assert set(rows) == set(wanted.grid.cases())
    for case, row in rows.items():
        assert set(row.others) == {"llama.cpp Q4_0", "openvino Q4_0, static"}, case
        assert row.ours.low > 0 and (row.memory_share is not None) == (case.kind == "decode"), case
    assert rows[BenchCase("decode", 24)].others["llama.cpp Q4_0"].median == 10
    assert rows[BenchCase("prefill", 16, 3)].others["llama.cpp Q4_0"].median == 100
    assert rows[BenchCase("decode", 0, 3)].others["openvino Q4_0, static"].median == pytest.approx(300)
    (note,) = table.notes
    assert note.startswith("openvino Q4_0, dynamic: ") and "no such property" in note
    assert "prefill 16; decode at 0; decode at 24; prefill 16, 3 at once" in note
    assert not [name.name for name in paths.artifacts.iterdir() if name.name.startswith("random-")]


def test_the_models_own_file_and_the_one_made_of_it(built_home: Path, llama_bench: Path) -> None:
    config = Config().replace(**{"weak.threads": 1})
    wanted = Wanted(("llama.cpp",), (1,), Grid((256, 512), (0,), (1,)), 1, llama_bench)
    found = bench_peers(config, Paths.under(built_home), wanted, progress=SilentProgress())
    (table,) = found.tables
    assert all(set(row.others) == {"llama.cpp Q4_0", "llama.cpp Q4_1 as it is"} for row in table.rows)
    shown = found.to_dict()
    row = next(row for row in table.rows if row.case.kind == "decode")
    assert shown["against"]["llama.cpp"]["decode_ratio"] == pytest.approx(row.ours.median / 10, rel=1e-3)
    assert (
        set(shown["against"]["llama.cpp"]["prefill_ratio"])
        == {"256", "512"}
        == set(shown["prefill_tokens_per_s"])
    )
    assert {"device", "model", "threads", "decode_tokens_per_s", "ttft_ms", "peak_bytes"} < set(shown)
