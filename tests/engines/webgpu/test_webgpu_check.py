"""A GPU that computes wrongly is found out, whichever shader it is that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.engines.webgpu import load as loading
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.load import Checked, open_model
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.errors import EngineUnavailable
from edge_router.types import SilentProgress
from edge_router.webgpu_program import Program, Windows, write_program

WINDOWS = Windows(context=64, chunk=32, sequences=2)
# What a broken driver may do, as a change of the shader's text: (shaders whose name begins so, old, new).
MISTAKES = {
    "a product": ("matvec_64_64", "- 7.0 * total", "- 8.0 * total"),
    "a normalised product": ("matvec_64_128_norm", "mean / f32(INPUTS)", "mean / f32(INPUTS + 3u)"),
    "a gated product": ("matvec_64_96_norm_silu", "exp(-x)", "exp(-x * 0.9)"),
    "a product of many rows": ("matmul_64_128_tile64", "part3 += four.w * w", "part3 += four.z * w"),
    "a product of a few rows": ("matfew_64_128", "square.y += dot(a1, a1)", "square.y += dot(a0, a0)"),
    "a product in float16": ("matmul_64_128_tile64_half", "part3 += four.w * w", "part3 += four.z * w"),
    "a residual": ("matmul_96_64_tile64_residual", "+ residual[at]", "- residual[at]"),
    "looking up": ("take", ">> (4u * i)", ">> (4u * (i ^ 1u))"),
    "turning": ("append", "values.y * cosine + values.x", "values.y * cosine - values.x"),
    "attention over a prompt": ("attend_many", "token <= place", "token < place"),
    "attention of a token": ("attend_one", "token < place &&", "token + 1u < place &&"),
    "TVM's normalisation": ("rms_norm", "6.400000e+01f", "6.000000e+01f"),
    "the best": ("best_part", "found > most", "found < most"),
    "the likeliest": ("likeliest", "== falls", "!= falls"),
    "not a number": ("matvec_96_64", "result0 + residual", "result0 / 0.0 * 0.0 + residual"),
}


def broken(program: Program, begins: str, old: str, new: str) -> Program:
    shaders = dict(program.shaders)
    names = [name for name in shaders if name.startswith(begins)]
    assert names
    for name in names:
        assert old in shaders[name].source
        shaders[name] = replace(shaders[name], source=shaders[name].source.replace(old, new))
    return replace(program, shaders=shaders)


@pytest.fixture
def wrong(adapter: Adapter, tiny_model: Any) -> Callable[[Program], list[str]]:
    def found(program: Program) -> list[str]:
        made = WebGpuRunner(adapter, program, WINDOWS, tiny_model.read)
        try:
            return [mismatch.shader for mismatch in made.mismatches()]
        finally:
            made.close()

    return found


def test_nothing_is_wrong(wrong: Callable[[Program], list[str]], tiny_model: Any) -> None:
    assert wrong(tiny_model.program) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_found(wrong: Callable[[Program], list[str]], tiny_model: Any, mistake: str) -> None:
    begins, old, new = MISTAKES[mistake]
    found = wrong(broken(tiny_model.program, begins, old, new))
    blamed = {"rms_norm": "decode beside prefill", "best_part": "best"}.get(begins, begins)
    assert any(name.startswith(blamed) for name in found), found


def test_windows_too_small_to_check_anything(adapter: Adapter, tiny_model: Any) -> None:
    made = WebGpuRunner(adapter, tiny_model.program, Windows(1, 1), tiny_model.read)
    assert made.mismatches() == []
    made.close()


# ---- at load -----------------------------------------------------------------------------------------------


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def hardware(adapter: Adapter) -> Adapter:
    """The same adapter, said to be a GPU."""
    return replace(adapter, kind="discrete")


def test_a_gpu_that_computes_wrongly_is_not_used(hardware: Adapter, tiny_model: Any, tmp_path: Path) -> None:
    file, checked = tmp_path / "program.json", Checked(tmp_path / "checked.json")
    write_program(broken(tiny_model.program, *MISTAKES["a product"]), file)
    with pytest.raises(EngineUnavailable, match=r"computes wrongly: matvec_64_64\w* is off by [\d.]+%"):
        open_model(tiny_model.directory, file, hardware, windows=WINDOWS, model_id="m", checked=checked)
    assert checked._known() == {}


def test_a_gpu_is_checked_once(
    hardware: Adapter, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    check = WebGpuRunner.mismatches

    def counted(runner: WebGpuRunner) -> Any:
        calls.append(None)
        return check(runner)

    monkeypatch.setattr(WebGpuRunner, "mismatches", counted)

    def load(adapter: Adapter) -> None:
        checked = Checked(tmp_path / "deep" / "checked.json")
        open_model(
            tiny_model.directory, tiny_model.file, adapter, windows=WINDOWS, model_id="m", checked=checked
        ).close()

    load(replace(hardware, kind="software"))
    assert len(calls) == 0
    load(hardware)
    load(hardware)
    assert len(calls) == 1
    load(replace(hardware, driver="another"))
    assert len(calls) == 2


@pytest.mark.parametrize(("times", "half"), [(1.8, True), (1.05, False), (0.7, False), (None, False)])
def test_the_faster_arithmetic_is_used(
    hardware: Adapter,
    tiny_model: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: float | None,
    half: bool,
) -> None:
    made: list[WebGpuRunner] = []

    def measured(runner: WebGpuRunner) -> float | None:
        made.append(runner)
        return times

    monkeypatch.setattr(WebGpuRunner, "half_speed", measured)
    file, notes = tmp_path / "checked.json", Notes()
    for _ in range(2):
        open_model(
            tiny_model.directory,
            tiny_model.file,
            hardware,
            windows=WINDOWS,
            model_id="m",
            checked=Checked(file),
            progress=notes,
        ).close()
    assert [runner.half for runner in made] == [half]  # measured once
    assert list(Checked(file)._known().values()) == [half]
    (said,) = notes.texts
    assert ("float16 is used there" if half else "float32 is used") in said
    assert ("no float16 arithmetic" in said) is (times is None)


def test_both_are_measured(adapter: Adapter, tiny_model: Any) -> None:
    for chosen in (adapter, replace(adapter, features=adapter.features - {"shader-f16"})):
        made = WebGpuRunner(chosen, tiny_model.program, WINDOWS, tiny_model.read)
        times = made.half_speed()
        made.add_sequence(0)
        plain = made.prefill(0, list(range(20))).copy()
        made.reset()
        made.half = chosen.has_float16
        made.add_sequence(0)
        np.testing.assert_allclose(made.prefill(0, list(range(20))), plain, atol=0.05)
        made.close()
        assert (times is None) is not chosen.has_float16
        assert times is None or times > 0


def test_what_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own" / "checked.json"
    checked = Checked(file)
    assert "a" not in checked
    checked.add("a")
    assert "a" in Checked(file)
    for content in ("", "[]", "[1, 2", "null"):
        file.write_text(content)
        assert "a" not in checked
    monkeypatch.setattr(loading, "_REMEMBERED", 2)
    for key in "xyz":
        checked.add(key)
    assert [key in checked for key in "xyz"] == [False, True, True]
    assert [item.name for item in file.parent.iterdir()] == ["checked.json"]
