"""A few rows times a quantized matrix: sequences that decode together, and short prompts.

As `matvec`, but each weight that is unpacked serves four rows, which are the four numbers of a vector. More
rows take more workgroups, which read the matrix again.
"""

from __future__ import annotations

from dataclasses import asdict

from edge_router.compile.webgpu.shaders.matvec import GATES, GROUP, Layout, MatVec, lines, result
from edge_router.compile.webgpu.wgsl import Binding, Number, Shader, shader

ROWS = 4  # of x that a workgroup takes
_EVERY = range(ROWS)
_AXES = "xyzw"


def matfew(shape: MatVec, stride: int = 0) -> Shader:
    """n rows. Buffers: x, [norm weight], words, scales, [bias], [residual], y.

    `stride` of y, where this part of W has not all of its columns; 0: `outputs`.
    """
    layout = Layout.of(shape)
    blocks = -(-shape.outputs // layout.outputs)
    constants: dict[str, Number] = {
        "INPUTS": shape.inputs,
        "GROUPS": shape.inputs // GROUP,
        "OUTPUTS": shape.outputs,
        "FIRST": shape.first,
        "STRIDE": stride or shape.outputs,
        "LANES": layout.lanes,
        "PER_BLOCK": layout.outputs,
        "WEIGHT_ROWS": layout.rows,
        "BLOCKS": blocks,
    }
    return shader(
        shape.name.replace("matvec", "matfew") + (f"_of{stride}" if stride else ""),
        bindings=[
            Binding("x", "vec4<f32>"),
            *([Binding("norm_weight", "vec4<f32>")] if shape.norm is not None else []),
            Binding("words", "vec4<u32>"),
            Binding("scales", "u32"),
            *([Binding("bias", "f32")] if shape.bias else []),
            *([Binding("residual", "f32")] if shape.residual else []),
            Binding("y", "f32", write=True),
        ],
        constants=constants,
        body=_body(shape, layout),
        threads=layout.threads,
        grid=f"(n + {ROWS - 1}) // {ROWS} * {blocks}",
        scalars={"n": "n"},
        about={"op": "product", **asdict(shape), "rows": ROWS, "stride": stride},
    )


def _body(shape: MatVec, layout: Layout) -> str:
    """`w0`, `w1` ... are rows of W: those of the gate first, then those of up."""
    halves = 2 if shape.gate else 1
    rows = range(halves * layout.rows)
    normed = shape.norm is not None
    return f"""
var<workgroup> partial: array<vec4<f32>, {layout.threads * len(rows)}>;
{"var<workgroup> squares: array<vec4<f32>, LANES>;" if normed else ""}
{GATES[shape.gate] if shape.gate else ""}

fn scale(index: u32) -> f32 {{
  let pair = unpack2x16float(scales[index >> 1u]);
  return select(pair.x, pair.y, (index & 1u) == 1u);
}}

// Of eight weights those with even numbers; shifted by four bits, the odd ones.
fn four(word: u32) -> vec4<f32> {{
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u));
}}

fn run(block: u32, thread: u32) {{
  let top = (block / BLOCKS) * {ROWS}u;
  if (top >= scalars.n) {{ return; }}
  let last = scalars.n - 1u;
  let part = block % BLOCKS;
  let lane = thread % LANES;
  let team = thread / LANES;
  let first = part * PER_BLOCK + team * WEIGHT_ROWS;
{lines(f"  let from{b} = min(top + {b}u, last) * (INPUTS / 4u);" for b in _EVERY)}
{lines(f"  var sum{row} = vec4<f32>(0.0);" for row in rows)}
  var square = vec4<f32>(0.0);
  for (var group = lane; group < GROUPS; group += LANES) {{
    var total = vec4<f32>(0.0);
{lines(_weights(row, layout.rows) for row in rows)}
{lines(word_lines(word, len(rows), normed) for word in range(4))}
{lines(f"    sum{row} += scale(place{row}) * (dots{row} - 7.0 * total);" for row in rows)}
  }}
{lines(keep_lines(row, halves, layout.rows) for row in rows)}
{"  if (team == 0u) { squares[lane] = square; }" if normed else ""}
  workgroupBarrier();
  let row = part * PER_BLOCK + thread;
  if (thread >= PER_BLOCK || row >= OUTPUTS) {{ return; }}
{lines(f"  var all{half} = vec4<f32>(0.0);" for half in range(halves))}
  for (var i = 0u; i < LANES; i++) {{
{lines(f"    all{h} += partial[(i * {halves}u + {h}u) * PER_BLOCK + thread];" for h in range(halves))}
  }}
{_factor(shape.norm, halves) if shape.norm is not None else ""}
{lines(_store(shape, b, halves) for b in _EVERY)}
}}
"""


def _weights(row: int, per_half: int) -> str:
    half, own = divmod(row, per_half)
    place = f"(min(first + {own}u, OUTPUTS - 1u) + {half}u * OUTPUTS) * GROUPS + group"
    return f"""    let place{row} = {place};
    let w{row} = words[place{row}];
    var dots{row} = vec4<f32>(0.0);"""


def word_lines(word: int, rows: int, normed: bool) -> str:
    """Eight columns: of four rows of x, then of each row of W."""
    at = f"group * 8u + {2 * word}u"
    text = ["    {"]
    for b in _EVERY:
        text += [f"      var a{b} = x[from{b} + {at}];", f"      var b{b} = x[from{b} + {at} + 1u];"]
        if normed:
            text.append(f"      square.{_AXES[b]} += dot(a{b}, a{b}) + dot(b{b}, b{b});")
            text += [f"      a{b} *= norm_weight[{at}];", f"      b{b} *= norm_weight[{at} + 1u];"]
        text.append(f"      total.{_AXES[b]} += dot(a{b} + b{b}, vec4<f32>(1.0));")
        text.append(f"      let even{b} = vec4<f32>(a{b}.xz, b{b}.xz);")
        text.append(f"      let odd{b} = vec4<f32>(a{b}.yw, b{b}.yw);")
    for row in range(rows):
        axis = _AXES[word]
        dots = ", ".join(f"dot(low{row}, even{b}) + dot(high{row}, odd{b})" for b in _EVERY)
        text += [
            f"      let low{row} = four(w{row}.{axis});",
            f"      let high{row} = four(w{row}.{axis} >> 4u);",
            f"      dots{row} += vec4<f32>({dots});",
        ]
    return lines([*text, "    }"])


def keep_lines(row: int, halves: int, per_half: int) -> str:
    half, own = divmod(row, per_half)
    place = f"(lane * {halves}u + {half}u) * PER_BLOCK + team * WEIGHT_ROWS + {own}u"
    return f"  partial[{place}] = sum{row};"


def _factor(epsilon: float, halves: int) -> str:
    return lines(
        [
            "  var mean = vec4<f32>(0.0);",
            "  for (var i = 0u; i < LANES; i++) { mean += squares[i]; }",
            f"  let factor = inverseSqrt(mean / f32(INPUTS) + {epsilon!r});",
            *(f"  all{half} *= factor;" for half in range(halves)),
        ]
    )


def _store(shape: MatVec, b: int, halves: int) -> str:
    names = lines(f"    let result{half} = all{half}.{_AXES[b]};" for half in range(halves))
    return f"""  if (top + {b}u <= last) {{
    let to = (top + {b}u) * STRIDE + FIRST + row;
{names}
    y[to] = {result(shape, "to")};
  }}"""
