"""Attention's shape, and what its shaders share.

Keys of a page lie as [head][word][token], values as [head][token][word]; a word holds two neighbouring
float16 numbers. So the threads of a workgroup, which take different tokens of the keys and different words
of the values, read neighbouring addresses in both. In eight bits a word holds four numbers, and behind the
words of each token lies the float32 that they are multiplied by.
"""

from __future__ import annotations

from edge_router.compile.webgpu.wgsl import Binding, Number
from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE, ROW_WORDS

LEAST = "-3.0e38"  # instead of an infinity, which WGSL does not have


@dataclass(frozen=True, slots=True)
class Heads:
    """`window`: how many tokens back attention looks, itself included; 0: all. `sinks`: the first tokens,
    which it sees from everywhere, as if they lay right before the window. `cap` bends scores smoothly to that
    bound. `norm`: epsilon of an RMS normalisation of each query and key. `scale` of the scores. `turned`: the
    channels that positions turn, the first ones of a head; 0: all. `eight`: bits of what is cached.
    """

    query: int
    key: int
    size: int
    scale: float
    window: int = 0
    sinks: int = 0
    cap: float | None = None
    norm: float | None = None
    turned: int = 0
    eight: bool = False

    @property
    def page_bytes(self) -> int:
        float16, scale = 2, 4
        return PAGE_SIZE * self.key * (self.size + scale if self.eight else self.size * float16)

    @property
    def name(self) -> str:
        words = [f"{self.query}", f"{self.key}", f"{self.size}"]
        words += [f"window{self.window}"] if self.window else []
        words += [f"sinks{self.sinks}"] if self.sinks else []
        words += [f"scale{self.scale:.6g}"]
        words += [f"cap{self.cap:g}"] if self.cap is not None else []
        words += ["norm"] if self.norm is not None else []
        words += [f"turned{self.turned}"] if self.turned else []
        words += ["eight"] if self.eight else []
        return "_".join(words).replace(".", "p").replace("-", "m")

    @property
    def constants(self) -> dict[str, Number]:
        return {
            "HEADS": self.query,
            "KEY_HEADS": self.key,
            "SHARE": self.query // self.key,
            "SIZE": self.size,
            "HALF": self.size // 2,
            "QUARTER": self.size // 4,
            "PAIRS": (self.turned or self.size) // 2,
            "WIDTH": (self.query + 2 * self.key) * self.size,
            "WINDOW": self.window,
            "SINKS": self.sinks,
            "PAGE": PAGE_SIZE,
            "ROW_WORDS": ROW_WORDS,
        }


# Channels are turned in pairs: i and i + PAIRS. What is left of a head makes pairs, too, which stay.
PAIRS = """
fn first(pair: u32) -> u32 { return select(pair + PAIRS, pair, pair < PAIRS); }
fn second(pair: u32) -> u32 { return pair + select(HALF, PAIRS, pair < PAIRS); }
fn turn(pair: u32, place: u32, values: vec2<f32>) -> vec2<f32> {
  if (pair >= PAIRS) { return values; }
  let cosine = rotary[place * 2u * PAIRS + pair];
  let sine = rotary[place * 2u * PAIRS + PAIRS + pair];
  return vec2<f32>(values.x * cosine - values.y * sine, values.y * cosine + values.x * sine);
}
"""

CONTROL = """
fn position(row: u32) -> u32 { return control[row * ROW_WORDS + 1u]; }
fn table(row: u32) -> u32 { return control[row * ROW_WORDS + 2u]; }
fn seen(token: u32, place: u32) -> bool {
  return token <= place && (WINDOW == 0u || token < SINKS || token + WINDOW > place);
}
// Where a token behind `place` stands for the sinks.
fn place_for_sinks(place: u32) -> u32 { return min(place, WINDOW + SINKS - 1u); }
// The first token of the window, as far as `tile` divides it; and where tiles go on behind the one at `base`:
// through the sinks, then from `begin`.
fn window_begin(place: u32, tile: u32) -> u32 {
  return select(0u, (place + 1u - WINDOW) / tile * tile, WINDOW > 0u && place + 1u > WINDOW);
}
fn next_tile(base: u32, begin: u32, step: u32) -> u32 {
  let next = base + step;
  return select(next, select(begin, min(begin, next), next < SINKS), base < begin);
}
"""

# Where a token's key and value begin, pairs of their numbers, and what these are multiplied by.
_HALVES = """
fn key_word(page: u32, head: u32, slot: u32) -> u32 { return (page * KEY_HEADS + head) * HALF * PAGE + slot; }
fn value_word(page: u32, head: u32, slot: u32) -> u32 {
  return ((page * KEY_HEADS + head) * PAGE + slot) * HALF;
}
fn key_pair(at: u32, pair: u32) -> vec2<f32> { return unpack2x16float(keys[at + pair * PAGE]); }
fn value_pair(at: u32, pair: u32) -> vec2<f32> { return unpack2x16float(values[at + pair]); }
fn key_scale(at: u32) -> f32 { return 1.0; }
fn value_scale(at: u32) -> f32 { return 1.0; }
"""
_EIGHT = """
fn key_word(page: u32, head: u32, slot: u32) -> u32 {
  return (page * KEY_HEADS + head) * (QUARTER + 1u) * PAGE + slot;
}
fn value_word(page: u32, head: u32, slot: u32) -> u32 {
  return ((page * KEY_HEADS + head) * PAGE + slot) * (QUARTER + 1u);
}
fn two_of(word: u32, pair: u32) -> vec2<f32> {
  let four = unpack4x8snorm(word);
  return select(four.xy, four.zw, pair % 2u == 1u);
}
fn key_pair(at: u32, pair: u32) -> vec2<f32> { return two_of(keys[at + pair / 2u * PAGE], pair); }
fn value_pair(at: u32, pair: u32) -> vec2<f32> { return two_of(values[at + pair / 2u], pair); }
fn key_scale(at: u32) -> f32 { return bitcast<f32>(keys[at + QUARTER * PAGE]); }
fn value_scale(at: u32) -> f32 { return bitcast<f32>(values[at + QUARTER]); }
"""


def cached(heads: Heads) -> str:
    """Functions that read `keys` and `values`."""
    return _EIGHT if heads.eight else _HALVES


def score(heads: Heads) -> str:
    if heads.cap is None:
        return "fn bend(score: f32) -> f32 { return score; }"
    # tanh of large arguments is not a number on some drivers
    inner = f"tanh(clamp(score / {heads.cap!r}, -10.0, 10.0))"
    return f"fn bend(score: f32) -> f32 {{ return {heads.cap!r} * {inner}; }}"


def norm_bindings(heads: Heads) -> list[Binding]:
    names = ("query_norm", "key_norm") if heads.norm is not None else ()
    return [Binding(name, "f32") for name in names]
