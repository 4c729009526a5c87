"""Attention of one token of each of several sequences, with all that surrounds it."""

from __future__ import annotations

from dataclasses import asdict

from edge_router.compile.webgpu.shaders.heads import (
    CONTROL,
    LEAST,
    PAIRS,
    Heads,
    cached,
    norm_bindings,
    score,
)
from edge_router.compile.webgpu.wgsl import Binding, Shader, shader

_THREADS = 256  # each takes a token of the keys, and then a word of the values


def attend_one(heads: Heads, splits: int = 1) -> Shader:
    """One row of each sequence: turns it, appends it to the cache and attends, in one launch.

    Buffers: control, qkv, rotary, keys, values, [query norm, key norm], y. A workgroup is a head of a row and
    one of `splits` shares of its past. The row's own key is taken from `qkv`, so that no workgroup waits for
    the one that writes the cache. With several splits, y is what `combine` reads.
    """
    threads = _THREADS
    own = {"THREADS": threads, "SPLITS": splits, "TEAMS": threads // (heads.size // 2)}
    output = _PART if splits > 1 else _WHOLE
    return shader(
        f"attend_one_{heads.name}" + (f"_split{splits}" if splits > 1 else ""),
        bindings=[
            Binding("control", "u32"),
            Binding("qkv", "f32"),
            Binding("rotary", "f32"),
            Binding("keys", "u32", write=True),
            Binding("values", "u32", write=True),
            *norm_bindings(heads),
            Binding("y", "f32", write=True),
        ],
        constants={**heads.constants, **own},
        body=CONTROL
        + PAIRS
        + cached(heads)
        + score(heads)
        + (_NORM if heads.norm is not None else "")
        + _body(heads, output),
        threads=threads,
        grid=f"n * {heads.query * splits}",
        scalars={"n": "n"},
        about={"op": "attend_one", **asdict(heads), "splits": splits},
    )


def _body(heads: Heads, output: str) -> str:
    text = _BODY.replace("//NORM", _normal(heads)).replace("//OUTPUT", output)
    text = text.replace("//KEEP", _KEEP_EIGHT if heads.eight else _KEEP)
    for place, line in _SINKS.items():
        text = text.replace(f"{place}\n", line if heads.sinks else "")
    return text.replace("SCALE", repr(heads.scale)).replace("LEAST", LEAST)


def _normal(heads: Heads) -> str:
    if heads.norm is None:
        return ""
    return f"""
  squares[thread] = select(vec2<f32>(0.0), vec2<f32>(dot(q, q), dot(k, k)), thread < HALF);
  workgroupBarrier();
  var both = vec2<f32>(0.0);
  for (var i = 0u; i < HALF; i++) {{ both += squares[i]; }}
  let factor = inverseSqrt(both / f32(SIZE) + {heads.norm!r});
  if (thread < HALF) {{
    q *= factor.x * vec2<f32>(query_norm[first(thread)], query_norm[second(thread)]);
    k *= factor.y * vec2<f32>(key_norm[first(thread)], key_norm[second(thread)]);
  }}"""


_NORM = "var<workgroup> squares: array<vec2<f32>, THREADS>;"

# The query once more, as the sinks are to see it.
_SINKS = {
    "//FAR_QUERY": "var<workgroup> far: array<f32, SIZE>;\n",
    "//FAR_SCORE": "        if (token < SINKS) { two = vec2<f32>(far[2u * i], far[2u * i + 1u]); }\n",
    "//FAR": """    let distant = turn(thread, place_for_sinks(place), q) * SCALE;
    far[first(thread)] = distant.x;
    far[second(thread)] = distant.y;
""",
}

_WHOLE = """
  let to = (row * HEADS + head) * SIZE + 2u * thread;
  y[to] = whole.x / total;
  y[to + 1u] = whole.y / total;"""

_PART = """
  let to = block * (SIZE + 2u) + 2u * thread;
  y[to] = whole.x;
  y[to + 1u] = whole.y;
  if (thread == 0u) {
    y[block * (SIZE + 2u) + SIZE] = most;
    y[block * (SIZE + 2u) + SIZE + 1u] = total;
  }"""

_KEEP = """    let value = from_value + 2u * thread;
    keys[to_key + thread * PAGE] = pack2x16float(vec2<f32>(key[2u * thread], key[2u * thread + 1u]));
    values[to_value + thread] = pack2x16float(vec2<f32>(qkv[value], qkv[value + 1u]));"""

_KEEP_EIGHT = """    var key_top = 1e-30;
    var value_top = 1e-30;
    for (var i = 0u; i < SIZE; i++) {
      key_top = max(key_top, abs(key[i]));
      value_top = max(value_top, abs(qkv[from_value + i]));
    }
    if (thread < QUARTER) {
      let i = 4u * thread;
      let value = from_value + i;
      let own_key = vec4<f32>(key[i], key[i + 1u], key[i + 2u], key[i + 3u]);
      let own_value = vec4<f32>(qkv[value], qkv[value + 1u], qkv[value + 2u], qkv[value + 3u]);
      keys[to_key + thread * PAGE] = pack4x8snorm(own_key / key_top);
      values[to_value + thread] = pack4x8snorm(own_value / value_top);
    }
    if (thread == 0u) {
      keys[to_key + QUARTER * PAGE] = bitcast<u32>(key_top);
      values[to_value + QUARTER] = bitcast<u32>(value_top);
    }"""

_BODY = """
var<workgroup> query: array<f32, SIZE>;
var<workgroup> key: array<f32, SIZE>;
//FAR_QUERY
var<workgroup> products: array<f32, HALF>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> tops: array<f32, 16>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> sums: array<vec2<f32>, THREADS>;
var<workgroup> totals: array<f32, THREADS>;

fn run(block: u32, thread: u32) {
  let row = block / (HEADS * SPLITS);
  if (row >= scalars.n) { return; }
  let head = (block / SPLITS) % HEADS;
  let part = block % SPLITS;
  let group = head / SHARE;
  let place = position(row);
  let pages = table(row);

  var q = vec2<f32>(0.0);
  var k = vec2<f32>(0.0);
  let from_query = row * WIDTH + head * SIZE;
  let from_key = row * WIDTH + (HEADS + group) * SIZE;
  let from_value = row * WIDTH + (HEADS + KEY_HEADS + group) * SIZE;
  if (thread < HALF) {
    q = vec2<f32>(qkv[from_query + first(thread)], qkv[from_query + second(thread)]);
    k = vec2<f32>(qkv[from_key + first(thread)], qkv[from_key + second(thread)]);
  }
//NORM
  if (thread < HALF) {
//FAR
    q = turn(thread, place, q) * SCALE;
    k = turn(thread, place, k);
    query[first(thread)] = q.x;
    query[second(thread)] = q.y;
    key[first(thread)] = k.x;
    key[second(thread)] = k.y;
    products[thread] = dot(q, k);
  }
  workgroupBarrier();
  if (thread < HALF && part == 0u && head % SHARE == 0u) {
    let page = control[pages + place / PAGE];
    let to_key = key_word(page, group, place % PAGE);
    let to_value = value_word(page, group, place % PAGE);
//KEEP
  }

  // The row itself, then its past.
  let team = thread / HALF;
  let word = thread % HALF;
  var most = LEAST;
  var total = 0.0;
  var sum = vec2<f32>(0.0);
  if (part == 0u) {
    var score = 0.0;
    for (var i = 0u; i < HALF; i++) { score += products[i]; }
    most = bend(score);
    if (team == 0u) {
      total = 1.0;
      sum = vec2<f32>(qkv[from_value + 2u * word], qkv[from_value + 2u * word + 1u]);
    }
  }
  let first_tile = part * THREADS;
  let begin = first_tile + window_begin(place, THREADS);
  for (
    var base = select(begin, first_tile, first_tile < SINKS);
    base < place;
    base = next_tile(base, begin, SPLITS * THREADS)
  ) {
    let token = base + thread;
    var score = LEAST;
    if (token < place && seen(token, place)) {
      let from_cache = key_word(control[pages + token / PAGE], group, token % PAGE);
      var dots = 0.0;
      for (var i = 0u; i < HALF; i++) {
        var two = vec2<f32>(query[2u * i], query[2u * i + 1u]);
//FAR_SCORE
        dots += dot(two, key_pair(from_cache, i));
      }
      score = bend(dots * key_scale(from_cache));
    }
    scores[thread] = score;
    workgroupBarrier();
    if (thread < 16u) {
      var top = LEAST;
      for (var i = thread; i < THREADS; i += 16u) { top = max(top, scores[i]); }
      tops[thread] = top;
    }
    workgroupBarrier();
    var now = most;
    for (var i = 0u; i < 16u; i++) { now = max(now, tops[i]); }
    weights[thread] = select(0.0, exp(score - now), score > LEAST);
    workgroupBarrier();
    let fade = exp(most - now);
    most = now;
    total *= fade;
    sum *= fade;
    if (team < TEAMS) {
      for (var i = team; i < min(THREADS, place - base); i += TEAMS) {
        let past = base + i;
        let value = value_word(control[pages + past / PAGE], group, past % PAGE);
        total += weights[i];
        sum += weights[i] * value_scale(value) * value_pair(value, word);
      }
    }
  }
  sums[thread] = sum;
  totals[thread] = total;
  workgroupBarrier();
  if (thread >= HALF) { return; }
  var whole = vec2<f32>(0.0);
  total = 0.0;
  for (var i = 0u; i < TEAMS; i++) {
    whole += sums[i * HALF + thread];
    total += totals[i * HALF + thread];
  }
//OUTPUT
}
"""


def combine(heads: Heads, splits: int) -> Shader:
    """What the splits of a head found, as one. Buffers: parts, y."""
    return shader(
        f"combine_{heads.name}_split{splits}",
        bindings=[Binding("parts", "f32"), Binding("y", "f32", write=True)],
        constants={"SIZE": heads.size, "SPLITS": splits, "HEADS": heads.query},
        body=_COMBINE.replace("LEAST", LEAST),
        threads=heads.size,
        grid=f"n * {heads.query}",
        scalars={"n": "n"},
        about={"op": "combine", "size": heads.size, "splits": splits},
    )


_COMBINE = """
fn run(block: u32, thread: u32) {
  if (block >= scalars.n * HEADS) { return; }
  var most = LEAST;
  for (var i = 0u; i < SPLITS; i++) { most = max(most, parts[(block * SPLITS + i) * (SIZE + 2u) + SIZE]); }
  var sum = 0.0;
  var total = 0.0;
  for (var i = 0u; i < SPLITS; i++) {
    let at = (block * SPLITS + i) * (SIZE + 2u);
    let weight = exp(parts[at + SIZE] - most);
    sum += weight * parts[at + thread];
    total += weight * parts[at + SIZE + 1u];
  }
  y[block * SIZE + thread] = sum / total;
}
"""
