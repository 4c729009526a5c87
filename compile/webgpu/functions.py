"""The ways through a model that a program has, and what a model's parameters are to the executor."""

# mypy: disable-error-code="misc"

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from edge_router.compile.rotary import Rotary as Turns
from edge_router.compile.webgpu import tunables
from edge_router.compile.webgpu.parts import Cache, GpuParts, Way
from edge_router.webgpu_program import ROW_WORDS, Buffer, Control, KeyValues, Logits, Picked, Rotary, Weight

_ROTARY = "rotary"  # parameters of that name and a number
_STORED_BYTES = {"uint32": 4, "float16": 2, "float32": 4}
WAYS = {
    "decode": Way(tile=1, one_each=True),
    "decode_far": Way(tile=1, one_each=True, far=True),
    "prefill": Way(tile=tunables.TILE, one_each=False),
    "prefill_half": Way(tile=tunables.TILE, one_each=False, half=True),
    "prefill_few": Way(tile=4, one_each=False),
    "batch": Way(tile=4, one_each=True),
}


class Functions(nn.Module):
    """Around an architecture's `CausalLM`; all of its tensors keep the names they have there."""

    def __init__(self, parts: GpuParts, causal: Any) -> None:
        super().__init__()
        self._parts = parts
        self._causal = (causal,)  # as an attribute of its own all of its parameters would be there twice
        setattr(self, causal.name, causal.body)
        if hasattr(causal, "lm_head"):
            self.lm_head = causal.lm_head
        self.tables = tuple(parts.tables) if causal.rotary is None else (causal.rotary,)
        for number, table in enumerate(self.tables):
            setattr(self, f"{_ROTARY}{number}", nn.Parameter((1, 2 * len(table.frequencies)), "float32"))

    def decode(self, control: Tensor) -> Tensor:
        """The next token of one sequence."""
        return self._logits(self._hidden(control, "decode"))

    def decode_far(self, control: Tensor) -> Tensor:
        """The same behind a long past."""
        return self._logits(self._hidden(control, "decode_far"))

    def prefill(self, control: Tensor) -> Tensor:
        """The next n tokens of one sequence; logits of the last."""
        return self._logits(_last_row(self._hidden(control, "prefill")))

    def prefill_half(self, control: Tensor) -> Tensor:
        """The same, products in float16 where that is safe."""
        return self._logits(_last_row(self._hidden(control, "prefill_half")))

    def prefill_few(self, control: Tensor) -> Tensor:
        """The same for few tokens."""
        return self._logits(_last_row(self._hidden(control, "prefill_few")))

    def batch(self, control: Tensor) -> Tensor:
        """The next token of each of n sequences."""
        return self._logits(self._hidden(control, "batch"))

    def _hidden(self, control: Tensor, way: str) -> Tensor:
        chosen = WAYS[way]
        self._parts.way = replace(chosen, half=False) if self._parts.exact else chosen
        (causal,) = self._causal
        tables = [getattr(self, f"{_ROTARY}{number}") for number in range(len(self.tables))]
        return causal.body(causal.embed(control), Cache(control, tables, self._parts.way))

    def _logits(self, hidden: Tensor) -> Tensor:
        (causal,) = self._causal
        head = causal.lm_head if hasattr(causal, "lm_head") else causal.body.embedding
        return causal.capped(head(causal.body.norm(hidden)))

    def spec(self) -> dict[str, Any]:
        plain = {"param_mode": "plain", "effect_mode": "none"}
        rows = {name: 1 if way.tile == 1 else "n" for name, way in WAYS.items()}
        return {
            name: {"control": nn.spec.Tensor([count, ROW_WORDS], "uint32"), "$": plain}
            for name, count in rows.items()
        }


def buffers_of(
    parameters: Sequence[tuple[str, Any]], tables: Sequence[Turns], vocabulary: int
) -> dict[str, Buffer]:
    """What each parameter is to the executor; `control`, the functions' argument, comes first."""
    float32 = 4
    found: dict[str, Buffer] = {
        "control": Control(),
        "logits": Logits(vocabulary * float32),
        "picked": Picked(),
    }
    behind: dict[str, int] = {}  # rows of a tensor that the parts up to here have
    for name, parameter in parameters:
        rows, *columns = (int(size) for size in parameter.shape)
        module, _, last = name.rpartition(".")
        item = _STORED_BYTES[str(parameter.dtype)]
        if name.startswith(_ROTARY):
            table = tables[int(name.removeprefix(_ROTARY))]
            found[name] = Rotary(tuple(float(value) for value in table.frequencies), table.amplitude)
        elif last in ("keys", "values"):
            found[name] = KeyValues(columns[0] * item)
        elif ".parts." in module:
            tensor = f"{module.split('.parts.')[0]}.{last}"
            first = behind.get(tensor, 0)
            behind[tensor] = first + rows
            found[name] = Weight(tensor, rows * columns[0] * item, rows=(first, first + rows))
        else:
            found[name] = Weight(name, math.prod([rows, *columns]) * item, "float32")
    return found


def _last_row(hidden: Tensor) -> Tensor:
    def last(x: Any) -> Any:
        return te.compute((1, x.shape[1]), lambda _, i: x[x.shape[0] - 1, i], name="last_row")

    return op.tensor_expr_op(last, "last_row", [hidden])
