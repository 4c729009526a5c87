"""Many rows times a quantized matrix: prefill, and sequences that decode together.

A workgroup computes a tile of `rows` x 64 outputs, each thread 4 x 4 of them. 32 columns of x and of W (one
group of each row) are brought into workgroup memory at a time, transposed, so that a thread reads four rows
of x and four of W as one vector each.

With `half` these 32 columns are multiplied and added up in float16, the sums of such stretches in float32.
"""

from __future__ import annotations

from dataclasses import asdict

from edge_router.compile.webgpu.shaders.matvec import GATES, GROUP, Gate
from edge_router.compile.webgpu.wgsl import Binding, Number, Shader, ceil_div, shader
from edge_router.records import dataclass

COLUMNS = 64  # of a tile; with 64 rows it takes the 16 KiB that every device has


@dataclass(frozen=True, slots=True)
class MatMul:
    """`y = x W^T` for n rows of x; see `MatVec` for the rest. `rows` of a tile: 16, 32 or 64.

    `stride` of y, where this part of W has not all of its columns; 0: `outputs`.
    """

    inputs: int
    outputs: int
    rows: int = 64
    gate: Gate | None = None
    bias: bool = False
    residual: bool = False
    first: int = 0
    stride: int = 0
    half: bool = False

    @property
    def name(self) -> str:
        words = [self.gate or "", "bias" if self.bias else "", "residual" if self.residual else ""]
        words += [f"from{self.first}" if self.first else "", f"of{self.stride}" if self.stride else ""]
        words += ["half" if self.half else ""]
        sizes = [str(self.inputs), str(self.outputs), f"tile{self.rows}"]
        return "_".join(["matmul", *sizes, *(word for word in words if word)])


def matmul(shape: MatMul) -> Shader:
    """Buffers: x, words, scales, [bias], [residual], y."""
    per_tile = COLUMNS // 2 if shape.gate else COLUMNS
    tiles = -(-shape.outputs // per_tile)
    constants: dict[str, Number] = {
        "INPUTS": shape.inputs,
        "GROUPS": shape.inputs // GROUP,
        "OUTPUTS": shape.outputs,
        "FIRST": shape.first,
        "STRIDE": shape.stride or shape.outputs,
        "TILES": tiles,
        "ROWS": shape.rows,
        "THREADS": shape.rows * COLUMNS // 16,
    }
    return shader(
        shape.name,
        bindings=[
            Binding("x", "vec4<f32>"),
            Binding("words", "u32"),
            Binding("scales", "u32"),
            *([Binding("bias", "f32")] if shape.bias else []),
            *([Binding("residual", "f32")] if shape.residual else []),
            Binding("y", "f32", write=True),
        ],
        constants=constants,
        body=_body(shape),
        threads=int(constants["THREADS"]),
        grid=f"({ceil_div('n', shape.rows)}) * {tiles}",
        scalars={"n": "n"},
        about={"op": "product", "norm": None, **asdict(shape)},
        float16=shape.half,
    )


def _body(shape: MatMul) -> str:
    gate = GATES[shape.gate] if shape.gate else ""
    place = _GATED_PLACE if shape.gate else _PLAIN_PLACE
    text = gate + _GATHER.replace("PLACE", place) + _store(shape) + _RUN
    return text.replace("FOUR", "vec4<f16>" if shape.half else "vec4<f32>")


def _store(shape: MatMul) -> str:
    """fn store(row, tile, column, sum): what becomes of a thread's four outputs of a row."""
    if shape.gate:
        columns = ((0, "gate(sum.x) * sum.z"), (1, "gate(sum.y) * sum.w"))
    else:
        columns = tuple((number, f"sum.{axis}") for number, axis in enumerate("xyzw"))  # type: ignore[assignment]
    lines = [
        f"  if (column + {number}u < OUTPUTS) {{ let at = to + {number}u; y[at] = {value}"
        + (f" + bias[FIRST + column + {number}u]" if shape.bias else "")
        + (" + residual[at]" if shape.residual else "")
        + "; }"
        for number, value in columns
    ]
    return _STORE.replace("WIDTH", str(len(lines))).replace("//LINES", "\n".join(lines))


# The row of W behind column c of a tile. With a gate, a vector holds two columns of gate and those of up.
_PLAIN_PLACE = "min(tile * 64u + c, OUTPUTS - 1u)"
_GATED_PLACE = "min(tile * 32u + (c >> 2u) * 2u + (c & 1u), OUTPUTS - 1u) + ((c >> 1u) & 1u) * OUTPUTS"

_GATHER = """
var<workgroup> xs: array<FOUR, 8u * ROWS>;
var<workgroup> ws: array<FOUR, 512>;

fn scale(index: u32) -> f32 {
  let pair = unpack2x16float(scales[index >> 1u]);
  return select(pair.x, pair.y, (index & 1u) == 1u);
}

// Four rows of x and four of their columns, turned.
fn bring_inputs(item: u32, top: u32, group: u32) {
  let quad = item / 8u;
  let part = item % 8u;
  let last = scalars.n - 1u;
  let row = top + quad * 4u;
  let at = group * 8u + part;
  let a = x[min(row, last) * (INPUTS / 4u) + at];
  let b = x[min(row + 1u, last) * (INPUTS / 4u) + at];
  let c = x[min(row + 2u, last) * (INPUTS / 4u) + at];
  let d = x[min(row + 3u, last) * (INPUTS / 4u) + at];
  let to = part * 4u * (ROWS / 4u) + quad;
  xs[to] = FOUR(vec4<f32>(a.x, b.x, c.x, d.x));
  xs[to + ROWS / 4u] = FOUR(vec4<f32>(a.y, b.y, c.y, d.y));
  xs[to + ROWS / 2u] = FOUR(vec4<f32>(a.z, b.z, c.z, d.z));
  xs[to + 3u * (ROWS / 4u)] = FOUR(vec4<f32>(a.w, b.w, c.w, d.w));
}

fn weight_row(tile: u32, c: u32) -> u32 {
  return PLACE;
}

// Eight columns of four rows of W, unpacked and turned.
fn bring_weights(item: u32, tile: u32, group: u32) {
  let quad = item / 4u;
  let part = item % 4u;
  var rows: vec4<u32>;
  rows.x = weight_row(tile, quad * 4u) * GROUPS + group;
  rows.y = weight_row(tile, quad * 4u + 1u) * GROUPS + group;
  rows.z = weight_row(tile, quad * 4u + 2u) * GROUPS + group;
  rows.w = weight_row(tile, quad * 4u + 3u) * GROUPS + group;
  let four = vec4<f32>(scale(rows.x), scale(rows.y), scale(rows.z), scale(rows.w));
  rows = rows * 4u + part;
  let word = vec4<u32>(words[rows.x], words[rows.y], words[rows.z], words[rows.w]);
  for (var i = 0u; i < 8u; i++) {
    let codes = (word >> vec4<u32>(i * 4u)) & vec4<u32>(15u);
    ws[(part * 8u + i) * 16u + quad] = FOUR((vec4<f32>(codes) - 7.0) * four);
  }
}

"""

_STORE = """
fn store(row: u32, tile: u32, quad: u32, sum: vec4<f32>) {
  let column = (tile * 16u + quad) * WIDTHu;
  if (row >= scalars.n) { return; }
  let to = row * STRIDE + FIRST + column;
//LINES
}
"""

_RUN = """
fn run(block: u32, thread: u32) {
  let tile = block % TILES;
  let top = (block / TILES) * ROWS;
  if (top >= scalars.n) { return; }
  let column = thread % 16u;
  let quad = thread / 16u;
  var sum0 = vec4<f32>(0.0);
  var sum1 = sum0;
  var sum2 = sum0;
  var sum3 = sum0;
  for (var group = 0u; group < GROUPS; group++) {
    for (var item = thread; item < 64u + ROWS * 2u; item += THREADS) {
      if (item < 64u) { bring_weights(item, tile, group); }
      else { bring_inputs(item - 64u, top, group); }
    }
    workgroupBarrier();
    var part0 = FOUR();
    var part1 = part0;
    var part2 = part0;
    var part3 = part0;
    for (var k = 0u; k < 32u; k++) {
      let four = xs[k * (ROWS / 4u) + quad];
      let w = ws[k * 16u + column];
      part0 += four.x * w;
      part1 += four.y * w;
      part2 += four.z * w;
      part3 += four.w * w;
    }
    sum0 += vec4<f32>(part0);
    sum1 += vec4<f32>(part1);
    sum2 += vec4<f32>(part2);
    sum3 += vec4<f32>(part3);
    workgroupBarrier();
  }
  let row = top + quad * 4u;
  store(row, tile, column, sum0);
  store(row + 1u, tile, column, sum1);
  store(row + 2u, tile, column, sum2);
  store(row + 3u, tile, column, sum3);
}
"""
