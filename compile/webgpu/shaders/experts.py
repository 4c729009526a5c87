"""A mixture of experts: ratings, which experts rows go to, and products with the matrices of those alone.

Pairs of a row and one of its experts, numbered row by row, are put in the order of the experts and taken four
at a time, as `matfew` takes rows: a tile is of one expert, whose matrix is read once for it.
"""

from __future__ import annotations

from edge_router.compile.kernels.shapes import Routing
from edge_router.compile.webgpu.shaders.matfew import ROWS, keep_lines, word_lines
from edge_router.compile.webgpu.shaders.matvec import GATES, GROUP, Gate, Layout, MatVec, lines
from edge_router.compile.webgpu.wgsl import Binding, Number, Shader, ceil_div, shader
from edge_router.records import dataclass

TILE_WORDS = 1 + ROWS  # the expert, and the numbers of its pairs
_THREADS, _SORTERS = 64, 256
_NONE = "0xffffffffu"
_EVERY = range(ROWS)


@dataclass(frozen=True, slots=True)
class Product:
    """Of tiles with the matrices of experts `first` to `last`; y [pairs, outputs].

    `gate`: as in `MatVec`, of the pairs' rows. Without: of what pairs have themselves, times their shares.
    """

    routing: Routing
    inputs: int
    outputs: int
    first: int
    last: int
    gate: Gate | None = None

    @property
    def name(self) -> str:
        routing, word = self.routing, self.gate or "down"
        sizes = (routing.experts, routing.chosen, self.inputs, self.outputs, self.first)
        return "_".join(["experts", word, *map(str, sizes)])


def rate(inputs: int, experts: int) -> Shader:
    """n rows. Buffers: x, weights (float32), ratings. A workgroup computes one."""
    return shader(
        f"rate_{inputs}_{experts}",
        bindings=[
            Binding("x", "vec4<f32>"),
            Binding("weights", "vec4<f32>"),
            Binding("y", "f32", write=True),
        ],
        constants={"EXPERTS": experts, "QUARTERS": inputs // 4, "THREADS": _THREADS},
        body=_RATE,
        threads=_THREADS,
        grid=f"n * {experts}",
        scalars={"n": "n"},
    )


def choose(routing: Routing) -> Shader:
    """n rows. Buffers: ratings, routes [n, 2 * chosen]: experts, the best first, and their shares."""
    constants: dict[str, Number] = {
        "EXPERTS": routing.experts,
        "CHOSEN": routing.chosen,
        "ALL": not routing.shared_out,
        "THREADS": _THREADS,
    }
    return shader(
        f"choose_{routing.experts}_{routing.chosen}{'' if routing.shared_out else '_of_all'}",
        bindings=[Binding("ratings", "f32"), Binding("routes", "f32", write=True)],
        constants=constants,
        body=_CHOOSE,
        threads=_THREADS,
        grid="n",
        scalars={"n": "n"},
    )


def tiles(routing: Routing) -> Shader:
    """Of n rows. Buffers: routes, tiles [n * chosen, `TILE_WORDS`], those that are not needed last."""
    return shader(
        f"tiles_{routing.experts}_{routing.chosen}",
        bindings=[Binding("routes", "f32"), Binding("tiles", "u32", write=True)],
        constants={"EXPERTS": routing.experts, "CHOSEN": routing.chosen, "THREADS": _SORTERS},
        body=_TILES,
        threads=_SORTERS,
        grid="1",
        scalars={"n": "n"},
    )


def product(shape: Product) -> Shader:
    """Of n rows. Buffers: tiles, routes, x, words, scales, y."""
    matrix = MatVec(shape.inputs, shape.outputs, gate=shape.gate)
    layout = Layout.of(matrix)
    blocks = -(-shape.outputs // layout.outputs)
    constants: dict[str, Number] = {
        "CHOSEN": shape.routing.chosen,
        "INPUTS": shape.inputs,
        "GROUPS": shape.inputs // GROUP,
        "OUTPUTS": shape.outputs,
        "MATRIX": shape.outputs * (2 if shape.gate else 1),
        "FIRST": shape.first,
        "LAST": shape.last,
        "LANES": layout.lanes,
        "PER_BLOCK": layout.outputs,
        "WEIGHT_ROWS": layout.rows,
        "BLOCKS": blocks,
    }
    return shader(
        shape.name,
        bindings=[
            Binding("tiles", "u32"),
            Binding("routes", "f32"),
            Binding("x", "vec4<f32>"),
            Binding("words", "vec4<u32>"),
            Binding("scales", "u32"),
            Binding("y", "f32", write=True),
        ],
        constants=constants,
        body=_product(shape, layout),
        threads=layout.threads,
        grid=f"n * {shape.routing.chosen * blocks}",
        scalars={"n": "n"},
    )


def gather(width: int, chosen: int, *, residual: bool) -> Shader:
    """Of n rows. Buffers: what its experts give each, [residual], y: the sum."""
    return shader(
        f"gather_{width}_{chosen}{'_residual' if residual else ''}",
        bindings=[
            Binding("parts", "f32"),
            *([Binding("residual", "f32")] if residual else []),
            Binding("y", "f32", write=True),
        ],
        constants={"WIDTH": width, "CHOSEN": chosen, "THREADS": _THREADS},
        body=f"""
fn run(block: u32, thread: u32) {{
  let at = block * THREADS + thread;
  if (at >= scalars.n * WIDTH) {{ return; }}
  let row = at / WIDTH;
  var sum = {"residual[at]" if residual else "0.0"};
  for (var i = 0u; i < CHOSEN; i++) {{ sum += parts[(row * CHOSEN + i) * WIDTH + at % WIDTH]; }}
  y[at] = sum;
}}
""",
        threads=_THREADS,
        grid=ceil_div(f"n * {width}", _THREADS),
        scalars={"n": "n"},
    )


def _product(shape: Product, layout: Layout) -> str:
    halves = 2 if shape.gate else 1
    rows = range(halves * layout.rows)
    return f"""
var<workgroup> partial: array<vec4<f32>, {layout.threads * len(rows)}>;
{GATES[shape.gate] if shape.gate else ""}

fn scale(index: u32) -> f32 {{
  let pair = unpack2x16float(scales[index >> 1u]);
  return select(pair.x, pair.y, (index & 1u) == 1u);
}}

fn four(word: u32) -> vec4<f32> {{
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u));
}}

fn run(block: u32, thread: u32) {{
  let tile = (block / BLOCKS) * {TILE_WORDS}u;
  if (block / BLOCKS >= scalars.n * CHOSEN) {{ return; }}
  let expert = tiles[tile];
  if (expert < FIRST || expert >= LAST) {{ return; }}
  let part = block % BLOCKS;
  let lane = thread % LANES;
  let team = thread / LANES;
  let first = part * PER_BLOCK + team * WEIGHT_ROWS;
  let base = (expert - FIRST) * MATRIX;
{lines(f"  let pair{b} = tiles[tile + {b + 1}u];" for b in _EVERY)}
{lines(_from(b, gated=shape.gate is not None) for b in _EVERY)}
{lines(f"  var sum{row} = vec4<f32>(0.0);" for row in rows)}
  for (var group = lane; group < GROUPS; group += LANES) {{
    var total = vec4<f32>(0.0);
{lines(_weights(row, layout.rows) for row in rows)}
{lines(word_lines(word, len(rows), False) for word in range(4))}
{lines(f"    sum{row} += scale(place{row}) * (dots{row} - 7.0 * total);" for row in rows)}
  }}
{lines(keep_lines(row, halves, layout.rows) for row in rows)}
  workgroupBarrier();
  let row = part * PER_BLOCK + thread;
  if (thread >= PER_BLOCK || row >= OUTPUTS) {{ return; }}
{lines(f"  var all{half} = vec4<f32>(0.0);" for half in range(halves))}
  for (var i = 0u; i < LANES; i++) {{
{lines(f"    all{h} += partial[(i * {halves}u + {h}u) * PER_BLOCK + thread];" for h in range(halves))}
  }}
{lines(_store(b, gated=shape.gate is not None) for b in _EVERY)}
}}
"""


def _from(b: int, *, gated: bool) -> str:
    """Where pair b's inputs begin; a tile's first pair takes the place of those that it lacks."""
    pair = f"select(pair{b}, pair0, pair{b} == {_NONE})"
    return f"  let from{b} = {pair}{' / CHOSEN' if gated else ''} * (INPUTS / 4u);"


def _weights(row: int, per_half: int) -> str:
    half, own = divmod(row, per_half)
    place = f"(base + min(first + {own}u, OUTPUTS - 1u) + {half}u * OUTPUTS) * GROUPS + group"
    return f"""    let place{row} = {place};
    let w{row} = words[place{row}];
    var dots{row} = vec4<f32>(0.0);"""


def _store(b: int, *, gated: bool) -> str:
    axis = "xyzw"[b]
    share = f"routes[(pair{b} / CHOSEN) * 2u * CHOSEN + CHOSEN + pair{b} % CHOSEN]"
    value = f"gate(all0.{axis}) * all1.{axis}" if gated else f"{share} * all0.{axis}"
    return f"  if (pair{b} != {_NONE}) {{ y[pair{b} * OUTPUTS + row] = {value}; }}"


_RATE = """
var<workgroup> partial: array<f32, THREADS>;

fn run(block: u32, thread: u32) {
  if (block >= scalars.n * EXPERTS) { return; }
  let row = (block / EXPERTS) * QUARTERS;
  let expert = (block % EXPERTS) * QUARTERS;
  var sum = 0.0;
  for (var i = thread; i < QUARTERS; i += THREADS) { sum += dot(x[row + i], weights[expert + i]); }
  partial[thread] = sum;
  workgroupBarrier();
  if (thread != 0u) { return; }
  for (var i = 1u; i < THREADS; i++) { sum += partial[i]; }
  y[block] = sum;
}
"""

_CHOOSE = """
var<workgroup> rated: array<f32, EXPERTS>;
var<workgroup> best: array<u32, CHOSEN>;

fn run(block: u32, thread: u32) {
  if (block >= scalars.n) { return; }
  for (var e = thread; e < EXPERTS; e += THREADS) { rated[e] = ratings[block * EXPERTS + e]; }
  workgroupBarrier();
  for (var e = thread; e < EXPERTS; e += THREADS) {
    let own = rated[e];
    var rank = 0u;
    for (var other = 0u; other < EXPERTS; other++) {
      let rating = rated[other];
      if (rating > own || (rating == own && other < e)) { rank++; }
    }
    if (rank < CHOSEN) { best[rank] = e; }
  }
  workgroupBarrier();
  if (thread != 0u) { return; }
  let peak = rated[best[0]];
  var total = 0.0;
  if (ALL) {
    for (var e = 0u; e < EXPERTS; e++) { total += exp(rated[e] - peak); }
  } else {
    for (var i = 0u; i < CHOSEN; i++) { total += exp(rated[best[i]] - peak); }
  }
  for (var i = 0u; i < CHOSEN; i++) {
    routes[block * 2u * CHOSEN + i] = f32(best[i]);
    routes[block * 2u * CHOSEN + CHOSEN + i] = exp(rated[best[i]] - peak) / total;
  }
}
"""

_TILES = f"""
var<workgroup> starts: array<u32, EXPERTS>;
var<workgroup> used: u32;

fn expert_of(pair: u32) -> u32 {{
  return u32(routes[(pair / CHOSEN) * 2u * CHOSEN + pair % CHOSEN]);
}}

fn run(block: u32, thread: u32) {{
  if (block != 0u) {{ return; }}
  let pairs = scalars.n * CHOSEN;
  for (var e = thread; e < EXPERTS; e += THREADS) {{
    var count = 0u;
    for (var pair = 0u; pair < pairs; pair++) {{ if (expert_of(pair) == e) {{ count++; }} }}
    starts[e] = (count + {ROWS - 1}u) / {ROWS}u;
  }}
  workgroupBarrier();
  if (thread == 0u) {{
    var at = 0u;
    for (var e = 0u; e < EXPERTS; e++) {{
      let own = starts[e];
      starts[e] = at;
      at += own;
    }}
    used = at;
  }}
  workgroupBarrier();
  for (var e = thread; e < EXPERTS; e += THREADS) {{
    var tile = starts[e] * {TILE_WORDS}u;
    var slot = 0u;
    for (var pair = 0u; pair < pairs; pair++) {{
      if (expert_of(pair) != e) {{ continue; }}
      tiles[tile] = e;
      tiles[tile + 1u + slot] = pair;
      slot++;
      if (slot == {ROWS}u) {{
        slot = 0u;
        tile += {TILE_WORDS}u;
      }}
    }}
    if (slot > 0u) {{ for (; slot < {ROWS}u; slot++) {{ tiles[tile + 1u + slot] = {_NONE}; }} }}
  }}
  for (var i = used + thread; i < pairs; i += THREADS) {{ tiles[i * {TILE_WORDS}u] = {_NONE}; }}
}}
"""
