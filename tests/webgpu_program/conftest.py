"""A program by hand: it looks a token up and calls that logits."""

from __future__ import annotations

import pytest

from edge_router.webgpu_program import (
    Control,
    Expression,
    KeyValues,
    Launch,
    Logits,
    Picked,
    Program,
    ProgramFunction,
    Rotary,
    Shader,
    Weight,
)


@pytest.fixture
def program() -> Program:
    one = Expression(1)

    def function(rows: str) -> ProgramFunction:
        n = Expression(rows)
        look = Launch("look", ("control", "table", "x"), (Expression("n * 2"), one, one), (Expression("n"),))
        norm = Launch("norm", ("x", "turns", "keys", "y"), (n, one, one), ())
        return ProgramFunction((look, norm), {"x": Expression("n * 32"), "y": Expression("n * 12")}, n)

    return Program(
        model={"model_type": "llama", "layers": 1},
        vocab_size=8,
        shaders={
            "look": Shader("fn look() {}", "look", (False, False, True), 1),
            "norm": Shader("fn norm() {}", "norm", (False, False, True, True)),
        },
        buffers={
            "control": Control(),
            "logits": Logits(32),
            "picked": Picked(),
            "table": Weight("model.embed", 90, rows=(0, 3)),
            "vector": Weight("model.norm", 8, "float32"),
            "keys": KeyValues(64),
            "turns": Rotary((1.0, 0.25, 0.0625), 1.5),
        },
        functions={
            "decode": function("1"),
            "decode_far": function("1"),
            "prefill": function("n"),
            "prefill_few": function("n"),
            "prefill_half": function("n"),
            "batch": function("n"),
            "best": function("n"),
            "likeliest": function("n"),
        },
    )
