"""One row times a quantized matrix: what decoding spends its time in.

A workgroup computes a few outputs. Its threads form teams: the lanes of a team share the inputs of a row
among them, 32 at a time (a group with one scale, four words), and each team has rows of its own. What
surrounds the product is done where the numbers are in registers anyway: RMS normalisation of the input,
addition of a bias or the residual, the gate of an MLP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from math import prod
from typing import Literal

from edge_router.compile.webgpu import tunables
from edge_router.compile.webgpu.wgsl import Binding, Number, Shader, shader
from edge_router.records import dataclass

GROUP = 32  # weights that share a scale
_WORDS = 4  # of a group

Gate = Literal["silu", "gelu_tanh"]
GATES: dict[Gate, str] = {
    "silu": "fn gate(x: f32) -> f32 { return x / (1.0 + exp(-x)); }",
    # tanh of large arguments is not a number on some drivers
    "gelu_tanh": """fn gate(x: f32) -> f32 {
  let inner = clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -10.0, 10.0);
  return 0.5 * x * (1.0 + tanh(inner));
}""",
}


@dataclass(frozen=True, slots=True)
class MatVec:
    """`y = x W^T`, W of `outputs` rows and `inputs` columns in q4f16_1.

    `norm`: epsilon of an RMS normalisation of x, whose weight is another buffer. `gate`: W is gate upon up
    (2 * `outputs` rows) and y = gate(x gate^T) * (x up^T). `first`: row of y where this part of W begins.
    """

    inputs: int
    outputs: int
    norm: float | None = None
    gate: Gate | None = None
    bias: bool = False
    residual: bool = False
    first: int = 0

    @property
    def name(self) -> str:
        words = ["norm" if self.norm is not None else "", self.gate or "", "bias" if self.bias else ""]
        words += ["residual" if self.residual else "", f"from{self.first}" if self.first else ""]
        sizes = [str(self.inputs), str(self.outputs)]
        return "_".join(["matvec", *sizes, *(word for word in words if word)])


@dataclass(frozen=True, slots=True)
class Layout:
    """How a workgroup is divided: teams of `lanes` threads, each with `rows` rows of W."""

    threads: int
    lanes: int
    rows: int

    @property
    def outputs(self) -> int:
        return self.threads // self.lanes * self.rows

    @classmethod
    def of(cls, shape: MatVec) -> Layout:
        """Few idle lanes first, then enough workgroups, then as many rows as share one load of x."""
        groups = shape.inputs // GROUP
        busy = (count for count in tunables.LANES if groups / (-(-groups // count) * count) >= 0.75)
        lanes = max(busy, default=min(tunables.LANES))
        for threads, rows in tunables.LAYOUTS:
            layout = cls(threads, lanes, rows if shape.gate is None else max(1, rows // 2))
            if shape.outputs // layout.outputs >= tunables.WORKGROUPS:
                break
        return layout


def matvec(shape: MatVec, layout: Layout | None = None) -> Shader:
    """Buffers: x, [norm weight], words, scales, [bias], [residual], y."""
    layout = layout or Layout.of(shape)
    halves = 2 if shape.gate else 1
    bindings = [
        Binding("x", "vec4<f32>"),
        *([Binding("norm_weight", "vec4<f32>")] if shape.norm is not None else []),
        Binding("words", "vec4<u32>"),
        Binding("scales", "u32"),
        *([Binding("bias", "f32")] if shape.bias else []),
        *([Binding("residual", "f32")] if shape.residual else []),
        Binding("y", "f32", write=True),
    ]
    constants: dict[str, Number] = {
        "INPUTS": shape.inputs,
        "GROUPS": shape.inputs // GROUP,
        "OUTPUTS": shape.outputs,
        "FIRST": shape.first,
        "LANES": layout.lanes,
        "PER_BLOCK": layout.outputs,
        "ROWS": layout.rows,
    }
    return shader(
        shape.name,
        bindings=bindings,
        constants=constants,
        body=_body(shape, layout, halves),
        threads=layout.threads,
        grid=str(-(-shape.outputs // layout.outputs)),
        about={"op": "product", **asdict(shape)},
    )


def _body(shape: MatVec, layout: Layout, halves: int) -> str:
    rows = [(half, row) for half in range(halves) for row in range(layout.rows)]
    partials = prod((layout.threads, layout.rows, halves))
    normed = shape.norm is not None
    return f"""
var<workgroup> partial: array<f32, {partials}>;
{"var<workgroup> squares: array<f32, LANES>;" if normed else ""}
{GATES[shape.gate] if shape.gate else ""}

fn scale(index: u32) -> f32 {{
  let pair = unpack2x16float(scales[index >> 1u]);
  return select(pair.x, pair.y, (index & 1u) == 1u);
}}

// Eight weights, lowest bits first, times the inputs with even numbers and those with odd ones.
fn eight(word: u32, even: vec4<f32>, odd: vec4<f32>) -> f32 {{
  let low = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
  let high = (vec4<u32>(word) >> vec4<u32>(4u, 12u, 20u, 28u)) & vec4<u32>(15u);
  return dot(vec4<f32>(low), even) + dot(vec4<f32>(high), odd);
}}

fn run(block: u32, thread: u32) {{
  let lane = thread % LANES;
  let team = thread / LANES;
  let first = block * PER_BLOCK + team * ROWS;
{lines(f"  var sum_{half}_{row} = 0.0;" for half, row in rows)}
  var square = 0.0;
  for (var group = lane; group < GROUPS; group += LANES) {{
    let at = group * 8u;
{lines(_inputs(word, normed) for word in range(_WORDS))}
    let total = dot(even0 + odd0 + even1 + odd1 + even2 + odd2 + even3 + odd3, vec4<f32>(1.0));
{lines(_row(half, row) for half, row in rows)}
  }}
{lines(_keep(halves, half, row) for half, row in rows)}
{"  if (team == 0u) { squares[lane] = square; }" if normed else ""}
  workgroupBarrier();
  let row = block * PER_BLOCK + thread;
  if (thread >= PER_BLOCK || row >= OUTPUTS) {{ return; }}
{_sums(halves, normed, shape.norm)}
  y[FIRST + row] = {result(shape, "FIRST + row")};
}}
"""


def _inputs(word: int, normed: bool) -> str:
    text = [f"    var a{word} = x[at + {2 * word}u];", f"    var b{word} = x[at + {2 * word + 1}u];"]
    if normed:
        text += [
            f"    square += dot(a{word}, a{word}) + dot(b{word}, b{word});",
            f"    a{word} *= norm_weight[group * 8u + {2 * word}u];",
            f"    b{word} *= norm_weight[group * 8u + {2 * word + 1}u];",
        ]
    text += [
        f"    let even{word} = vec4<f32>(a{word}.xz, b{word}.xz);",
        f"    let odd{word} = vec4<f32>(a{word}.yw, b{word}.yw);",
    ]
    return lines(text)


def _row(half: int, row: int) -> str:
    """Rows beyond the last read the last, and are thrown away."""
    place = f"min(first + {row}u, OUTPUTS - 1u)" + (f" + {half}u * OUTPUTS" if half else "")
    eights = " + ".join(f"eight(w.{axis}, even{word}, odd{word})" for word, axis in enumerate("xyzw"))
    return f"""    {{
      let place = ({place}) * GROUPS + group;
      let w = words[place];
      sum_{half}_{row} += scale(place) * ({eights} - 7.0 * total);
    }}"""


def _keep(halves: int, half: int, row: int) -> str:
    place = f"(lane * {halves}u + {half}u) * PER_BLOCK + team * ROWS + {row}u"
    return f"  partial[{place}] = sum_{half}_{row};"


def _sums(halves: int, normed: bool, epsilon: float | None) -> str:
    text = [f"  var result{half} = 0.0;" for half in range(halves)]
    text += [f"  for (var i = 0u; i < LANES; i++) {{ {_partials(halves)} }}"]
    if normed:
        text += [
            "  var mean = 0.0;",
            "  for (var i = 0u; i < LANES; i++) { mean += squares[i]; }",
            f"  let factor = inverseSqrt(mean / f32(INPUTS) + {epsilon!r});",
            *(f"  result{half} *= factor;" for half in range(halves)),
        ]
    return lines(text)


def _partials(halves: int) -> str:
    return " ".join(
        f"result{half} += partial[(i * {halves}u + {half}u) * PER_BLOCK + thread];" for half in range(halves)
    )


def result(shape: MatVec, place: str) -> str:
    """What becomes of the sums of a row: `result0`, and with a gate `result1`. `place` is that in y."""
    value = "gate(result0) * result1" if shape.gate else "result0"
    value += " + bias[FIRST + row]" if shape.bias else ""
    return value + (f" + residual[{place}]" if shape.residual else "")


def lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)
