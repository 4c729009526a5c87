"""From an architecture to a program: what is in it, and what it is not made for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tvm
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from edge_router.compile.webgpu import build as build_module
from edge_router.compile.webgpu.build import PROGRAM_FILE, build_program, check, write
from edge_router.compile.webgpu.export import Exporter
from edge_router.compile.webgpu.functions import WAYS
from edge_router.compile.webgpu.kernels import build
from edge_router.compile.webgpu.lower import lower, target
from edge_router.compile.webgpu.symbols import expression, substitute
from edge_router.compile.webgpu.tables import row_spans
from edge_router.errors import (
    ArtifactCorrupt,
    BuildFailed,
    InvalidModel,
    UnsupportedArchitecture,
    UnsupportedTarget,
)
from edge_router.webgpu_program import Control, KeyValues, Program, Rotary, Weight, Windows, footprint

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "head_dim": 16,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "position_embedding_base": 10000.0,
    "tie_word_embeddings": True,
    "context_window_size": 128,
    "prefill_chunk_size": 32,
    "max_batch_size": 1,
}


@pytest.fixture(scope="module")
def program() -> Program:
    return build_program(CONFIG, "q4f16_1")


def test_a_token_takes_five_launches_a_layer(program: Program) -> None:
    around = 2  # looking the token up, and the logits
    assert len(program.functions["decode"].launches) == 5 * 3 + around


def test_kernels_of_tvms_are_among_ours(program: Program) -> None:
    counts = Counter(launch.shader for launch in program.functions["prefill"].launches)
    assert counts["rms_norm_kernel"] == 2 * 3
    assert counts["last_row_kernel"] == 1
    assert not any(
        name.endswith("_kernel")
        for name in {launch.shader for launch in program.functions["decode"].launches}
    )


def test_buffers_are_the_models_tensors(program: Program) -> None:
    tensors = {item.tensor: item for item in program.buffers.values() if isinstance(item, Weight)}
    assert tensors["model.embed_tokens.q_weight"] == Weight(
        "model.embed_tokens.q_weight", 320 * 8 * 4, rows=(0, 320)
    )
    assert tensors["model.norm.weight"] == Weight("model.norm.weight", 64 * 4, "float32")
    assert tensors["model.layers.2.self_attn.qkv_proj.q_scale"].bytes == 128 * 2 * 2
    assert len(tensors) == 2 + 3 * (4 * 2 + 2) + 1  # a tied table is there once
    others = [item for item in program.buffers.values() if not isinstance(item, Weight)]
    assert others.count(Control()) == 1
    assert others.count(KeyValues(16 * 2 * 16 * 2)) == 2 * 3
    (rotary,) = (item for item in others if isinstance(item, Rotary))
    assert rotary.frequencies == pytest.approx([10000.0 ** -(i / 8) for i in range(8)])


def test_a_head_of_its_own() -> None:
    program = build_program({**CONFIG, "tie_word_embeddings": False, "num_hidden_layers": 1}, "q4f16_1")
    assert "lm_head.parts.0.q_weight" in program.buffers
    assert program.functions["decode"].launches[-1].buffers[2] == "lm_head.parts.0.q_weight"


def test_choosing_is_part_of_it(program: Program) -> None:
    assert [launch.shader for launch in program.functions["best"].launches] == [
        "best_part_320",
        "best_whole_1",
    ]
    assert [launch.shader for launch in program.functions["likeliest"].launches] == ["likeliest_320"]
    for name in WAYS:
        assert program.functions[name].launches[-1].buffers[-1] == "logits"


def test_windows_are_not_in_it(program: Program) -> None:
    other = build_program({**CONFIG, "context_window_size": 64, "prefill_chunk_size": 16}, "q4f16_1")
    assert other == program
    small, large = (footprint(program, Windows(context, 32)) for context in (64, 128))
    assert large.key_values == 2 * small.key_values and large.weights == small.weights


def test_a_file(program: Program, tmp_path: Path) -> None:
    write(CONFIG, "q4f16_1", tmp_path)
    check(tmp_path)
    data = json.loads((tmp_path / PROGRAM_FILE).read_text())
    assert data["model"]["tvm"] == tvm.__version__
    (tmp_path / PROGRAM_FILE).write_text("{}")
    with pytest.raises(ArtifactCorrupt):
        check(tmp_path)


def test_what_it_is_not_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedTarget, match="q4f16_1, not q3f16_1"):
        build_program(CONFIG, "q3f16_1")
    with pytest.raises(UnsupportedArchitecture):
        build_program({**CONFIG, "model_type": "mamba"}, "q4f16_1")
    with pytest.raises(InvalidModel, match="hidden_size"):
        build_program({**CONFIG, "hidden_size": 80}, "q4f16_1")
    with pytest.raises(InvalidModel, match="lacks"):
        build_program({"model_type": "llama"}, "q4f16_1")


@pytest.mark.parametrize(("raised", "told"), [(RuntimeError("x"), BuildFailed), (KeyError("x"), KeyError)])
def test_what_breaks_in_the_compiler_is_a_failed_build_and_a_mistake_of_ours_stays_one(
    raised: Exception, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr(build_module, "_build", broken)
    with pytest.raises(told, match="x"):
        build_program(CONFIG, "q4f16_1")


def test_large_tables_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_router.compile.webgpu import tables

    monkeypatch.setattr(tables, "row_spans", lambda rows, size: row_spans(rows, size, 150 * 32))
    program = build_program({**CONFIG, "num_hidden_layers": 1}, "q4f16_1")
    parts = [f"model.embed_tokens.parts.{number}.q_weight" for number in range(3)]
    assert [program.buffers[part].rows for part in parts] == [(0, 150), (150, 300), (300, 320)]  # type: ignore[union-attr]
    for name in WAYS:
        function = program.functions[name]
        first, last = function.launches[:3], function.launches[-3:]
        assert (
            len({launch.buffers[-1] for launch in first}) == len({launch.buffers[-1] for launch in last}) == 1
        )
        assert [part in launch.buffers for part, launch in zip(parts, first, strict=True)] == [True] * 3
        assert [part in launch.buffers for part, launch in zip(parts, last, strict=True)] == [True] * 3


def test_spans() -> None:
    assert row_spans(10, 4, 40) == [(0, 10)]
    assert row_spans(11, 4, 40) == [(0, 10), (10, 11)]
    assert row_spans(2, 4, 1) == [(0, 1), (1, 2)]


# ---- TVM's expressions and kernels -------------------------------------------------------------------------


def test_texts_of_expressions() -> None:
    n = tirx.Var("n", "int64")
    assert expression(tirx.floordiv(n + 255, 256) * 4) == "(((n + 255) // 256) * 4)"
    assert expression(tirx.max(tirx.floormod(n, 8), 2) - 1) == "(max((n % 8), 2) - 1)"
    assert expression(tirx.min(tirx.Cast("int32", n), 7), {"n": "m"}) == "min(m, 7)"
    assert expression(tirx.shift_left(n, tirx.const(3, "int64"))) == "(n * 8)"
    assert expression(tirx.shift_right(n, tirx.const(2, "int64"))) == "(n // 4)"
    assert expression(5) == "5"
    with pytest.raises(NotImplementedError):
        expression(tirx.Var("x", "float32") > 1.0)
    assert substitute("(a + n_1) // a", {"a": "n * 2"}) == "((n * 2) + n_1) // (n * 2)"


class Odd(nn.Module):  # type: ignore[misc]
    """Steps that only TVM has kernels for."""

    def grown(self, x: Any) -> Any:
        wide = op.tensor_expr_op(
            lambda a: te.compute((a.shape[0], 8), lambda i, j: a[i, j] * 2.0 + 1.0), "grow", [x]
        )
        return op.reshape(op.tanh(op.reshape(wide, (x.shape[0], 2, 4))), (x.shape[0], 8))

    def twice(self, x: Any) -> Any:
        return op.concat([x, x], dim=0)

    def truth(self, x: Any) -> Any:
        return op.astype(op.greater(x, op.square(x)), "float32")


def exported(name: str) -> tuple[Any, dict[str, Any]]:
    spec = {
        name: {"x": nn.spec.Tensor(["n", 8], "float32"), "$": {"param_mode": "plain", "effect_mode": "none"}}
    }
    with target():
        module, _ = Odd().export_tvm(spec=spec)
        lowered = lower(module)
        kernels = {v.name_hint: f for v, f in lowered.functions_items() if isinstance(f, tirx.PrimFunc)}
        shaders, calls = build(kernels, target())
    return Exporter(lowered[name], ["x"], {}, calls).export(), shaders


def test_kernels_of_tvms_become_launches() -> None:
    function, shaders = exported("grown")
    for launch in function.launches:
        shader = shaders[launch.shader]
        assert len(launch.buffers) == len(shader.writes) and len(launch.scalars) == shader.scalars
        blocks = launch.grid[0]({"n": 100})
        assert launch.scalars[-1]({"n": 100}) == blocks - 1  # TVM's kernels compare with the last block
    assert function.launches[0].buffers.count("x") == 1
    assert function.output_rows({"n": 3}) == 3


def test_rows_that_grow() -> None:
    function, _ = exported("twice")
    assert function.output_rows({"n": 5}) == 10
    assert "logits" in function.launches[-1].buffers and not function.scratch


def test_no_kernels() -> None:
    assert build({}, None) == ({}, {})
