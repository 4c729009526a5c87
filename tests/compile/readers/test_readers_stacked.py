"""Experts whose matrices lie together in a checkpoint, read one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers.base import TensorInfo
from edge_router.compile.readers.stacked import taken_apart
from edge_router.errors import InvalidModel


class Inner:
    source, config = "somewhere", {"model_type": "qwen3_moe"}

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        self.arrays = {
            f"model.layers.0.mlp.{name.replace('__', '.')}": np.arange(np.prod(shape), dtype="f4").reshape(
                shape
            )
            for name, shape in shapes.items()
        }
        self.tensors = {name: TensorInfo(array.shape, "F32") for name, array in self.arrays.items()}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
        return self.arrays[name][start:stop]


@pytest.mark.parametrize("suffix", ["", "__weight"])
def test_each_expert_has_matrices_of_its_own(suffix: str) -> None:
    inner = Inner(**{f"experts__gate_up_proj{suffix}": (3, 8, 5), f"experts__down_proj{suffix}": (3, 5, 4)})
    read = taken_apart(inner)  # type: ignore[arg-type]
    gate_up, down = inner.arrays.values()
    mlp = "model.layers.0.mlp.experts"
    assert read.tensors[f"{mlp}.2.up_proj.weight"].shape == (4, 5)
    assert len(read.tensors) == 9
    for expert in range(3):
        for first, part, whole in ((0, "gate", gate_up), (4, "up", gate_up), (0, "down", down)):
            rows = 5 if part == "down" else 4
            wanted = whole[expert, first : first + rows]
            name = f"{mlp}.{expert}.{part}_proj.weight"
            assert (read.rows(name) == wanted).all()
            assert (read.rows(name, 1, 3) == wanted[1:3]).all()
            read.rows(name)[:] = 0  # of the caller's alone
            assert (read.rows(name) == wanted).all()
    with pytest.raises(InvalidModel, match=r"experts\.3"):
        read.rows(f"{mlp}.3.up_proj.weight")


def test_what_holds_no_experts_is_left_as_it_is() -> None:
    inner = Inner(gate=(3, 8))
    assert taken_apart(inner) is inner  # type: ignore[arg-type, comparison-overlap]
