"""Queries and keys turned by their positions; keys and values into the cache."""

from __future__ import annotations

from dataclasses import asdict

from edge_router.compile.webgpu.shaders.heads import CONTROL, PAIRS, Heads, cached, norm_bindings
from edge_router.compile.webgpu.wgsl import Binding, Shader, shader


def append(heads: Heads) -> Shader:
    """Turns the queries and keys of n rows by their positions; keys and values go into the cache.

    Buffers: control, qkv, rotary, keys, values, [query norm, key norm], queries. Where there are sinks, all
    queries come once more, as the sinks are to see them. A workgroup is a head of a row, a thread one pair
    of channels, half a head apart.
    """
    return shader(
        f"append_{heads.name}",
        bindings=[
            Binding("control", "u32"),
            Binding("qkv", "f32"),
            Binding("rotary", "f32"),
            Binding("keys", "u32", write=True),
            Binding("values", "u32", write=True),
            *norm_bindings(heads),
            Binding("queries", "f32", write=True),
        ],
        constants=heads.constants,
        body=CONTROL
        + PAIRS
        + cached(heads)
        + _norm(heads)
        + _APPEND.replace("//FAR", _FAR if heads.sinks else "").replace(
            "//KEEP", _KEEP_EIGHT if heads.eight else _KEEP
        ),
        threads=heads.size // 2,
        grid=f"n * {heads.query + 2 * heads.key}",
        scalars={"n": "n"},
        about={"op": "append", **asdict(heads)},
    )


def _norm(heads: Heads) -> str:
    """`normal(thread, pair, head)`: the pair after the head's normalisation, if there is one."""
    if heads.norm is None:
        return "fn normal(thread: u32, pair: vec2<f32>, head: u32) -> vec2<f32> { return pair; }"
    return f"""
var<workgroup> squares: array<f32, HALF>;
fn normal(thread: u32, pair: vec2<f32>, head: u32) -> vec2<f32> {{
  squares[thread] = dot(pair, pair);
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < HALF; i++) {{ sum += squares[i]; }}
  let factor = inverseSqrt(sum / f32(SIZE) + {heads.norm!r});
  let a = first(thread);
  let b = second(thread);
  if (head < HEADS) {{ return pair * factor * vec2<f32>(query_norm[a], query_norm[b]); }}
  return pair * factor * vec2<f32>(key_norm[a], key_norm[b]);
}}
"""


_FAR = """
    workgroupBarrier();
    pair = turn(thread, place_for_sinks(place), straight);
    turned[first(thread)] = pair.x;
    turned[second(thread)] = pair.y;
    workgroupBarrier();
    let far = to + scalars.n * HEADS * SIZE;
    queries[far] = turned[2u * thread];
    queries[far + 1u] = turned[2u * thread + 1u];"""

_KEEP = """  if (head < HEADS + KEY_HEADS) {
    keys[key_word(page, head - HEADS, slot) + thread * PAGE] = pack2x16float(neighbours);
  } else {
    values[value_word(page, head - HEADS - KEY_HEADS, slot) + thread] = pack2x16float(neighbours);
  }"""

_KEEP_EIGHT = """  var top = 1e-30;
  for (var i = 0u; i < SIZE; i++) { top = max(top, abs(turned[i])); }
  if (thread >= QUARTER) { return; }
  let i = 4u * thread;
  let four = pack4x8snorm(vec4<f32>(turned[i], turned[i + 1u], turned[i + 2u], turned[i + 3u]) / top);
  if (head < HEADS + KEY_HEADS) {
    let to = key_word(page, head - HEADS, slot);
    keys[to + thread * PAGE] = four;
    if (thread == 0u) { keys[to + QUARTER * PAGE] = bitcast<u32>(top); }
  } else {
    let to = value_word(page, head - HEADS - KEY_HEADS, slot);
    values[to + thread] = four;
    if (thread == 0u) { values[to + QUARTER] = bitcast<u32>(top); }
  }"""

_APPEND = """
var<workgroup> turned: array<f32, SIZE>;

fn run(block: u32, thread: u32) {
  let all = HEADS + 2u * KEY_HEADS;
  let row = block / all;
  if (row >= scalars.n) { return; }
  let head = block % all;
  let place = position(row);
  let at = row * WIDTH + head * SIZE;
  var straight = vec2<f32>(qkv[at + first(thread)], qkv[at + second(thread)]);
  var pair = straight;
  if (head < HEADS + KEY_HEADS) {
    straight = normal(thread, straight, head);
    pair = turn(thread, place, straight);
  }
  turned[first(thread)] = pair.x;
  turned[second(thread)] = pair.y;
  workgroupBarrier();
  let neighbours = vec2<f32>(turned[2u * thread], turned[2u * thread + 1u]);
  if (head < HEADS) {
    let to = (row * HEADS + head) * SIZE + 2u * thread;
    queries[to] = neighbours.x;
    queries[to + 1u] = neighbours.y;
//FAR
    return;
  }
  let page = control[table(row) + place / PAGE];
  let slot = place % PAGE;
//KEEP
}
"""
