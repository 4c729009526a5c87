"""Attention of a chunk of one sequence, in float32 with a running maximum."""

from __future__ import annotations

from dataclasses import asdict

from edge_router.compile.webgpu.shaders.heads import CONTROL, LEAST, Heads, cached, score
from edge_router.compile.webgpu.wgsl import Binding, Shader, ceil_div, shader

_LANES = 8  # threads that share a row of queries
_SHARED = 16384  # bytes that the threads of a workgroup share on every device
_TILE = 32  # tokens looked at between two barriers


def attend_many(heads: Heads) -> Shader:
    """n rows of one sequence, whose keys and values are in the cache already.

    Buffers: control, queries as `append` leaves them, keys, values, y. A workgroup takes up to 16 rows of
    one head. Eight threads share a row: for the scores they take different tokens, for the sums different
    channels.
    """
    words = -(-heads.size // 2 // _LANES)  # of a thread
    rows = _rows(heads)
    body = _BODY.replace("//SUMS", "\n".join(f"  var sum{i} = vec2<f32>(0.0);" for i in range(words)))
    body = body.replace("//FADE", "\n".join(f"    sum{i} *= fade;" for i in range(words)))
    body = body.replace("//ADD", "\n".join(f"      {_add(i, heads)}" for i in range(words)))
    for place, text in _SINKS.items():
        body = body.replace(f"{place}\n", text if heads.sinks else "")
    body = body.replace("//STORE", "\n".join(f"  {_store(i, heads)}" for i in range(words)))
    return shader(
        f"attend_many_{heads.name}",
        bindings=[
            Binding("control", "u32"),
            Binding("queries", "f32"),
            Binding("keys", "u32"),
            Binding("values", "u32"),
            Binding("y", "f32", write=True),
        ],
        constants={**heads.constants, "LANES": _LANES, "ROWS": rows, "TILE": _TILE},
        body=CONTROL
        + cached(heads)
        + score(heads)
        + body.replace("SCALE", repr(heads.scale)).replace("LEAST", LEAST),
        threads=_LANES * rows,
        grid=f"({ceil_div('n', rows)}) * {heads.query}",
        scalars={"n": "n"},
        about={"op": "attend_many", **asdict(heads)},
    )


def _rows(heads: Heads) -> int:
    """Of a workgroup, with their queries and scores in shared memory."""
    float32, queries = 4, 2 if heads.sinks else 1
    return next(rows for rows in (16, 8, 4) if rows * (queries * heads.size + _TILE) * float32 <= _SHARED)


def _add(index: int, heads: Heads) -> str:
    step = f"sum{index} += scaled * value_pair(value, lane + {index * _LANES}u);"
    whole = (index + 1) * _LANES <= heads.size // 2
    return step if whole else f"if (lane + {index * _LANES}u < HALF) {{ {step} }}"


def _store(index: int, heads: Heads) -> str:
    at = f"to + {2 * index * _LANES}u"
    step = f"y[{at}] = sum{index}.x / total; y[{at} + 1u] = sum{index}.y / total;"
    whole = (index + 1) * _LANES <= heads.size // 2
    return step if whole else f"if (lane + {index * _LANES}u < HALF) {{ {step} }}"


# The queries once more, as the sinks are to see them.
_SINKS = {
    "//FAR_QUERY": "var<workgroup> far: array<vec2<f32>, ROWS * HALF>;\n",
    "//FAR_LOAD": """    let behind = at + scalars.n * HEADS * SIZE;
    far[i] = vec2<f32>(queries[behind], queries[behind + 1u]) * SCALE;
""",
    "//FAR_SCORE": "          if (token < SINKS) { two = far[own * HALF + word]; }\n",
}

_BODY = """
var<workgroup> query: array<vec2<f32>, ROWS * HALF>;
var<workgroup> scores: array<f32, ROWS * TILE>;
//FAR_QUERY

fn run(block: u32, thread: u32) {
  let top = (block / HEADS) * ROWS;
  if (top >= scalars.n) { return; }
  let head = block % HEADS;
  let group = head / SHARE;
  let own = thread / LANES;
  let lane = thread % LANES;
  let last_row = scalars.n - 1u;
  let row = min(top + own, last_row);
  let place = position(row);
  let pages = table(row);
  for (var i = thread; i < ROWS * HALF; i += ROWS * LANES) {
    let from_row = min(top + i / HALF, last_row);
    let at = (from_row * HEADS + head) * SIZE + 2u * (i % HALF);
    query[i] = vec2<f32>(queries[at], queries[at + 1u]) * SCALE;
//FAR_LOAD
  }
  workgroupBarrier();
  let end = position(min(top + ROWS - 1u, last_row)) + 1u;
  let begin = window_begin(position(top), TILE);
  var most = LEAST;
  var total = 0.0;
//SUMS
  for (var base = select(begin, 0u, SINKS > 0u); base < end; base = next_tile(base, begin, TILE)) {
    for (var i = lane; i < TILE; i += LANES) {
      let token = base + i;
      var score = LEAST;
      if (seen(token, place)) {
        let key = key_word(control[pages + token / PAGE], group, token % PAGE);
        var sum = 0.0;
        for (var word = 0u; word < HALF; word++) {
          var two = query[own * HALF + word];
//FAR_SCORE
          sum += dot(two, key_pair(key, word));
        }
        score = bend(sum * key_scale(key));
      }
      scores[own * TILE + i] = score;
    }
    workgroupBarrier();
    var now = most;
    for (var i = 0u; i < TILE; i++) { now = max(now, scores[own * TILE + i]); }
    let fade = exp(most - now);
    most = now;
    total *= fade;
//FADE
    for (var i = 0u; i < min(TILE, end - base); i++) {
      let token = base + i;
      let score = scores[own * TILE + i];
      let weight = select(0.0, exp(score - now), score > LEAST);
      total += weight;
      let value = value_word(control[pages + token / PAGE], group, token % PAGE);
      let scaled = weight * value_scale(value);
//ADD
    }
    workgroupBarrier();
  }
  if (top + own >= scalars.n) { return; }
  let to = (row * HEADS + head) * SIZE + 2u * lane;
//STORE
}
"""
