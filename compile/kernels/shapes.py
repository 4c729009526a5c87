"""What kernels are made for, in plain numbers: pages, attention heads, products. Nothing here imports TVM."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from edge_router.compile.kernels.stored import Stored
from edge_router.records import dataclass

PAGE = 16  # tokens; MLC and TVM fix it too
BEFORE = -1  # in the place of a state's slot: the state that the row before left

Gate = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True, slots=True)
class Heads:
    """`query` heads in groups that share one of the `key_value` heads; `size` channels each.

    `cap` bends scores so that none exceeds it; 0 for none. `window` is how many tokens, its own included, a
    query sees in the layers that keep one. Of what belongs to a layer the runtime hands only the scores' scale
    on to the kernels, so it is below 0 in those.
    """

    query: int
    key_value: int
    size: int
    dtype: str = "float16"
    cap: float = 0.0
    window: int = 0

    @property
    def group(self) -> int:
        return self.query // self.key_value


@dataclass(frozen=True, slots=True)
class Linear:
    """What one kernel computes: `y = x W^T` with what surrounds it.

    `rows` None: any number; `many` False says that it stays small. `add`: another argument, of y's shape and
    type, is added; `bias`: one of a row, of the scales' type. `gated`: the matrix is gate upon up, and
    y = gate(x gate^T) * (x up^T), half as wide, where gate is what is said.
    """

    inputs: int
    outputs: int
    rows: int | None
    x_dtype: str
    y_dtype: str
    add: bool = False
    bias: bool = False
    gated: bool = False
    gate: Gate = "silu"
    many: bool = True
    stored: Stored = field(default_factory=Stored)


@dataclass(frozen=True, slots=True)
class Routing:
    """Which `chosen` of `experts` a token goes to. `shared_out`: their shares sum to 1; see `ExpertSizes`."""

    experts: int
    chosen: int
    shared_out: bool


@dataclass(frozen=True, slots=True)
class Grouped:
    """Products of tokens with the matrices of the experts that they go to, which lie one after another.

    `gate`: x [rows, inputs] becomes y [rows * chosen, outputs / 2], each expert's matrix being gate upon up, as
    in `Linear`. Without: x [rows * chosen, inputs] becomes y [rows, outputs], the sum by the experts' shares,
    and `add` is added. `rows` None: any number.
    """

    routing: Routing
    inputs: int
    outputs: int
    rows: int | None
    gate: Gate | None = None
    add: bool = False
    stored: Stored = field(default_factory=Stored)


@dataclass(frozen=True, slots=True)
class Convolved:
    """`channels` columns of x from `first` on, of its `width`, each with `taps` of its own."""

    width: int
    channels: int
    taps: int
    dtype: str
    first: int = 0
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Recurrence:
    """`heads` states of [key_size, value_size], in groups that share one of the `key_heads`.

    `query`, `key` and `value` are where these begin in the `convolved` columns, `step` and `rate` in the
    projected ones, which are `width`. `delta`: by the gated delta rule.
    """

    heads: int
    key_heads: int
    key_size: int
    value_size: int
    convolved: int
    query: int
    key: int
    value: int
    width: int
    step: int
    dtype: str
    rate: int = 0
    delta: bool = False


@dataclass(frozen=True, slots=True)
class GatedNorm:
    """Each of `groups` of `size` is normalised by itself; gates begin at column `gate` of `width`.

    `before`: the gate comes before the norm; `whole`: each group has weights of its own.
    """

    groups: int
    size: int
    width: int
    gate: int
    epsilon: float
    dtype: str
    before: bool = False
    whole: bool = False
