"""tests/gpu/visit without a GPU: steps that hang, what they leave, what a pack may hold, and the tables of it all.

`.ci/gpu dry` runs the whole of it on the emulated GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

VISIT = Path(__file__).parent / "visit"
STEPS = ("small", "kernels", "logits", "speed", "memory", "exhausted", "router", "serving", "vulkan")


def load(name: str) -> ModuleType:
    known = f"visit_{Path(name).name}"
    spec = importlib.util.spec_from_file_location(known, VISIT / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[known] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return load("run")


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    return load("pack")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load("tables")


def test_all_steps_together_take_less_than_six_minutes(run: Any, pack: Any) -> None:
    steps = run.steps(pack.FULL.rest)
    assert [step[0] for step in steps if step[0] != "speed"] == [step for step in STEPS if step != "speed"]
    assert len([step for step in steps if step[0] == "speed"]) == 3
    assert run.MACHINE_S + sum(run.LONGEST[step[0]] for step in steps) <= 360
    assert all((VISIT / f"{step[0]}.py").is_file() for step in steps)


ENDING = [
    ("pass", 0, ""),
    ("import sys; print('said'); sys.exit(3)", 3, "said"),
    ("import os; os.abort()", -6, ""),
    ("import time; print('began', flush=True); time.sleep(600)", "its time was up", "began"),
    ("import os, time; os.close(1); os.close(2); time.sleep(600)", "its time was up", ""),
    (
        "import signal, time; signal.signal(15, 1); signal.signal(2, 1); time.sleep(600)",
        "its time was up",
        "",
    ),
]


@pytest.mark.parametrize(("program", "ended", "said"), ENDING)
def test_a_step_ends_however_it_ends(run: Any, program: str, ended: object, said: str) -> None:
    limit = 2.0 if isinstance(ended, str) else 300.0
    found = run.within(limit, [sys.executable, "-c", program], os.environ)
    assert found["ended"] == ended
    assert said in found["said"]
    assert found["seconds"] < 300


@pytest.mark.skipif(sys.platform != "linux", reason="the machine with a GPU is a Linux")
def test_what_a_step_has_started_ends_with_it(run: Any) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    program = f"import subprocess; print(subprocess.Popen({sleeper!r}).pid, flush=True)"
    found = run.within(300.0, [sys.executable, "-c", program], os.environ)
    child, deadline = int(found["said"]), time.monotonic() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.01)


STEPS_THAT_END_ANYHOW = {
    "small": "import json, os, pathlib; pathlib.Path(os.environ['GPU_OUT'], 'small.new').write_text('{')",
    "kernels": "import time; time.sleep(600)",
    "logits": "import absent_on_that_machine",
    "speed": "import sys; print('speed of', sys.argv[1])",
    "memory": "import os; os.abort()",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the machine with a GPU is a Linux")
def test_a_visit_goes_on_past_steps_that_hang_or_fail(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, out, place = tmp_path / "steps", tmp_path / "out", tmp_path / "place"
    for folder in (steps, out, tmp_path / "pack/site", place / "pack/site/edge_router/of_another_checkout"):
        folder.mkdir(parents=True)
    for step in STEPS:
        (steps / f"{step}.py").write_text(STEPS_THAT_END_ANYHOW.get(step, "print('ran')"), encoding="utf-8")
    described = {"commit": "abc1234", "sources": run.sources(), "speed": ["big"]}
    (tmp_path / "pack/manifest.json").write_text(json.dumps(described), encoding="utf-8")
    with tarfile.open(tmp_path / "part.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "pack", "pack")
    monkeypatch.setattr(run, "HERE", steps)
    monkeypatch.setitem(run.LONGEST, "kernels", 1)
    assert run.visit(tmp_path / "part.tar.xz", out, place, None, []) == 3
    facts = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    ended = {name: step["ended"] for name, step in facts["steps"].items()}
    assert list(ended) == [*STEPS[:3], "speed big", *STEPS[4:]]
    assert ended["kernels"] == "its time was up"
    assert [ended["logits"], ended["memory"]] == [1, -6]
    assert [ended[name] for name in ("speed big", *STEPS[5:])] == [0] * 5
    assert "speed of big" in facts["steps"]["speed big"]["said"]
    assert "absent_on_that_machine" in facts["steps"]["logits"]["said"]
    assert facts["commit"] == "abc1234"
    assert [path.name for path in out.iterdir()] == ["gpu.json"]
    assert not (place / "pack/site/edge_router/of_another_checkout").exists()


def test_results_of_a_mended_checkout_are_not_the_packs_commits(run: Any, tmp_path: Path) -> None:
    source = tmp_path / "edge_router/config/settings.py"
    source.parent.mkdir(parents=True)
    source.write_text("one = 1", encoding="utf-8")
    before = run.sources(tmp_path)
    source.write_text("one = 2", encoding="utf-8")
    assert run.sources(tmp_path) != before
    assert run._commit({"commit": "abc1234", "sources": run.sources()}) == "abc1234"
    assert run._commit({"commit": "abc1234", "sources": before}) == "abc1234-dirty"
    assert run._commit({"commit": "abc1234-dirty", "sources": before}) == "abc1234-dirty"


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Any]:
    common = load("common")
    common.OUT = tmp_path
    yield common.Results("step")


def test_a_finding_is_in_the_file_at_once_and_an_error_is_one(results: Any, tmp_path: Path) -> None:
    def held() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))
        return found

    results.check("first", True, error=0.5)
    assert held()["checks"] == [{"name": "first", "good": True, "error": 0.5}]
    with results.trying("second"):
        raise ValueError("no")
    assert held()["checks"][1]["good"] is False
    assert "ValueError: no" in held()["checks"][1]["error"]
    results.figures("model", ms=2)
    type(results)("step").check("of another process", True)
    results.figures("model", more=3)
    assert held()["figures"] == {"model": {"ms": 2, "more": 3}}
    assert [check["name"] for check in held()["checks"]] == ["first", "second", "of another process"]


def test_logits_of_a_model_that_hangs_or_dies_keep_no_other_waiting(
    results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "common", sys.modules["visit_common"])
    logits: Any = load("logits")
    program = tmp_path / "of_one.py"
    program.write_text(
        "import os, sys, time\nos.abort() if sys.argv[1] == 'dies' else time.sleep(600)", "utf-8"
    )
    logits.__dict__.update(__file__=str(program), MODEL_S=1.0)
    monkeypatch.setattr(logits, "manifest", lambda: {"logits": ["hangs", "dies"]})
    logits.main()
    checks = json.loads((tmp_path / "logits.json").read_text(encoding="utf-8"))["checks"]
    assert [(check["name"], check["good"]) for check in checks] == [("hangs", False), ("dies", False)]
    assert "timed out" in checks[0]["error"]
    assert "died" in checks[1]["error"]


def test_a_kernel_that_hangs_is_ended_and_the_next_is_asked_of_another_process() -> None:
    emulator: Any = load("../../compile/gpu/emulator")
    answering = "import pickle, sys; pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(pickle.dumps(7))"
    programs = iter(["import time; time.sleep(600)", "import os; os.read(0, 1); os._exit(3)", answering])

    class Scripted(emulator.Emulator):  # type: ignore[misc]
        def _start(self) -> subprocess.Popen[bytes]:
            pipe = subprocess.PIPE
            return subprocess.Popen([sys.executable, "-c", next(programs)], stdin=pipe, stdout=pipe)

    asked = Scripted(emulator.REAL)
    asked._limit = 0.5
    with pytest.raises(RuntimeError, match="no answer to run"):
        asked.ask("run")
    asked._limit = 300.0
    with pytest.raises(RuntimeError, match="ended with 3"):
        asked.ask("run")
    assert asked.ask("run") == 7
    asked.close()


def packed(pack: Any, folder: Path, library: bytes, *more: str) -> Path:
    from fnmatch import translate

    for patterns in pack.RUNTIME.values():
        for pattern in patterns:
            assert translate(pattern)
            path = folder / "site" / pattern.replace("*", "any")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for name in ("models/llama/cuda.so", *more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(library)
    return folder


def cubin(architecture: str) -> bytes:
    import base64

    code = bytearray(64)
    code[:4], code[18], code[49] = b"\x7fELF", 190, int(architecture.removeprefix("sm_"))
    return f"//edge_router machine code {architecture} {base64.b64encode(code).decode()}\n".encode()


BAD = [
    (b"", (), "holds machine code for \\[\\]"),
    (cubin("sm_80"), (), "sm_80"),
    (cubin("sm_80") + cubin("sm_90") + cubin("sm_89"), (), "sm_89"),
    (cubin("sm_80") + cubin("sm_90"), ("site/tvm/lib/libtvm_compiler.so",), "should not travel"),
    (cubin("sm_80") + cubin("sm_90"), ("site/nvidia/cu13/lib/libnvrtc.so.13",), "should not travel"),
]


@pytest.mark.parametrize(("library", "more", "said"), BAD)
def test_a_pack_that_is_not_as_it_should_be_is_refused(
    pack: Any, tmp_path: Path, library: bytes, more: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit, match=said):
        pack.check(packed(pack, tmp_path, library, *more), ("sm_80", "sm_90"))


def test_a_pack_as_it_should_be(pack: Any, tmp_path: Path) -> None:
    folder = packed(pack, tmp_path, cubin("sm_80") + cubin("sm_90"))
    pack.check(folder, ("sm_90", "sm_80"))
    (folder / "site/platformdirs/any.py").unlink()
    with pytest.raises(SystemExit, match="platformdirs"):
        pack.check(folder, ("sm_90", "sm_80"))


def test_the_page_is_what_the_results_say(tables: Any) -> None:
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()
    assert tables.section() in tables.page()


def visited(folder: Path, *, emulated: bool = False, **steps: Any) -> Path:
    gpu = {"name": "NVIDIA X1", "maker": "nvidia", "driver": "580.1"}
    facts = {
        "machine": {"gpus": [gpu], "python": "3.12.3", "emulated": emulated},
        "commit": "abc1234",
        "steps": {
            "kernels": {"ended": 0, "seconds": 3.2},
            "logits": {"ended": "its time was up", "seconds": 40},
        },
    }
    folder.mkdir(exist_ok=True)
    for name, values in {"gpu": facts, **steps}.items():
        (folder / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_what_was_not_run_is_told(tables: Any, tmp_path: Path) -> None:
    checks = [{"name": "one", "good": True}, {"name": "two", "good": False, "error": "no\nValueError: wrong"}]
    text = "\n".join(tables.measured([visited(tmp_path, kernels={"checks": checks, "figures": {}})]))
    assert "### NVIDIA X1, driver 580.1, commit abc1234" in text
    assert "| kernels | 1 of 2 | by itself | 3 |" in text
    assert "| logits | not run | its time was up | 40 |" in text
    assert "| memory | not run | not run | 0 |" in text
    assert "Not good:\n\n- kernels: two: ValueError: wrong\n" in text
    assert "| cuda | not run | not run |" in text


def test_vulkans_logits_are_told_apart(tables: Any, tmp_path: Path) -> None:
    checks = [{"name": "llama cuda", "good": True}, {"name": "llama vulkan", "good": False}]
    router = {"cpu": {"runs_on": "CPUExecutionProvider", "ms": 2.5}, "cuda": {"not_run": "no provider"}}
    found = visited(
        tmp_path, logits={"checks": checks, "figures": {}}, router={"checks": [], "figures": router}
    )
    text = "\n".join(tables.measured([found]))
    assert "| logits | 1 of 1 |" in text
    assert "| vulkan | 0 of 1 | not run | 0 |" in text
    assert "- vulkan: llama vulkan\n" in text
    assert "| cpu | CPUExecutionProvider | 2.5 |\n| cuda | no provider | not run |" in text


def test_results_of_an_emulated_gpu_are_not_kept(tables: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="emulated"):
        tables.keep(visited(tmp_path / "out", emulated=True))


def test_results_are_kept_under_their_gpu_and_commit(tables: Any, tmp_path: Path) -> None:
    tables.KEPT = tmp_path / "kept"
    assert tables.keep(visited(tmp_path / "out")) == tmp_path / "kept/NVIDIA-X1-abc1234"
    assert "NVIDIA X1" in tables.section()
    assert "not run yet" not in tables.section()
