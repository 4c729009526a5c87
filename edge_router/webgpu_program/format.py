"""A compiled model as data: shaders, buffers and the order of launches. It runs without the compiler.

A program is one JSON file. Sizes in it are expressions over the names below, so that one program serves any
context window and prefill chunk:

n        rows of a call: tokens of a prefill chunk, or sequences that decode together
tokens   that have a meaning; a model's table may have more rows

Shaders are WGSL. Bindings 0.. of a shader are storage buffers. With scalars, one more binding is a uniform
buffer of 32-bit numbers. Where a grid is wider than a device allows it is folded: block = z * width + x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from edge_router.records import dataclass
from edge_router.webgpu_program.expression import Expression

FORMAT = 2  # of programs; another number is another language
PAGE_SIZE = 16  # tokens of a page of the KV cache
FEW_ROWS = 16  # of a prompt's chunk; up to so many "prefill_few" does, with smaller tiles
FAR = 512  # tokens of a past; from so many on "decode_far" shares it out
ROW_WORDS = (
    4  # of the control buffer for each row: token, position, where its page table begins, 1/temperature
)
CANDIDATES = 64  # tokens that "likeliest" finds for a row
SORTED = 1024  # logits among which they are looked for at once
PICKED_WORDS = 2 * CANDIDATES + 2  # of each row; see `Picked`
VARIABLES = frozenset({"n", "tokens"})

Stored = Literal["raw", "float32"]


@dataclass(frozen=True, slots=True)
class Shader:
    """`writes` has an entry for each storage buffer; `scalars` counts the uniform's numbers.

    With `float16` it needs a device that has "shader-f16".
    `about` says what it computes, for whoever wants to check a device against a processor: "op" and its
    numbers, empty for the kernels that TVM made.
    """

    source: str
    entry: str
    writes: tuple[bool, ...]
    scalars: int = 0
    about: Mapping[str, object] = field(default_factory=dict, hash=False)
    float16: bool = False


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the model directory, or a range of its rows: (first, one behind the last).

    `raw` bytes as they are in the file, `float32` widened when they are uploaded. `bytes` on the device.
    """

    tensor: str
    bytes: int
    stored: Stored = "raw"
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Keys or values of one layer."""

    page_bytes: int


@dataclass(frozen=True, slots=True)
class Rotary:
    """Row p of the table: cos(p * frequency) of each frequency, then their sines, all times `scale`."""

    frequencies: tuple[float, ...]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """What the caller says of each row, and the page tables behind that."""


@dataclass(frozen=True, slots=True)
class Logits:
    """What the model says, float32, for each row of the output."""

    row_bytes: int


@dataclass(frozen=True, slots=True)
class Picked:
    """What was chosen from each row of logits, `PICKED_WORDS` of them.

    "best" writes two words, at twice the row's position modulo `PAGE_SIZE`: the token and its logit. It also
    makes the row's control words those of this token, so that it can be decoded next without the host.
    "likeliest" writes as many tokens as there are `CANDIDATES`, the likeliest first, then their logits, then
    the sum over all tokens of exp((logit - the highest) / temperature).
    """


Buffer = Weight | KeyValues | Rotary | Control | Logits | Picked


@dataclass(frozen=True, slots=True)
class Launch:
    """`buffers` are names of the program's, or of the function's scratch buffers."""

    shader: str
    buffers: tuple[str, ...]
    grid: tuple[Expression, Expression, Expression]
    scalars: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramFunction:
    """One way through the model, or what is done with its logits. `scratch` in bytes."""

    launches: tuple[Launch, ...]
    scratch: Mapping[str, Expression] = field(hash=False)
    output_rows: Expression  # of logits


@dataclass(frozen=True, slots=True)
class Program:
    """`functions`: "decode" appends one token to one sequence, "prefill" n tokens to one, "batch" one to each
    of n. "decode_far" and "prefill_few" do the same for a long past and for short chunks, "prefill_half"
    with float16 arithmetic where that is safe. "best" and "likeliest" choose from n rows of logits. `model`
    tells a reader what it is; nothing depends on it. `window`: where no layer looks farther back than so many
    tokens, the first `sinks` and the token itself included; 0: where one sees everything.
    """

    model: Mapping[str, object] = field(hash=False)
    vocab_size: int
    shaders: Mapping[str, Shader] = field(hash=False)
    buffers: Mapping[str, Buffer] = field(hash=False)
    functions: Mapping[str, ProgramFunction] = field(hash=False)
    window: int = 0
    sinks: int = 0
