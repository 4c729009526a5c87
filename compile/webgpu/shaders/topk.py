"""The likeliest tokens of each row of logits: one of them, or as many as a sampler wants.

Logits are compared as whole numbers that have the same order, so that a NaN is the largest and is found
whatever a driver thinks of comparisons with it. Of equal logits the token with the lower number comes first.
"""

from __future__ import annotations

from edge_router.compile.webgpu.wgsl import Binding, Number, Shader, shader
from edge_router.webgpu_program import (
    CANDIDATES,
    PAGE_SIZE,
    PICKED_WORDS,
    ROW_WORDS,
    SORTED,
    Expression,
    Launch,
    ProgramFunction,
)

_THREADS = 256
_STRETCH = 4096  # logits that a workgroup looks through for the best
LIST_WORDS = PICKED_WORDS  # as what is picked, but for keys in place of logits

_KEYS = """
fn key(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn logit(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}
fn before(key: u32, token: u32, other_key: u32, other: u32) -> bool {
  return key > other_key || (key == other_key && token < other);
}
"""


def functions(vocabulary: int) -> tuple[dict[str, ProgramFunction], dict[str, Shader]]:
    """ "best" and "likeliest", and their shaders by name."""
    rows = Expression("n")
    stretches = -(-vocabulary // _STRETCH)
    part, whole = best_part(vocabulary), best_whole(stretches)
    best = ProgramFunction(
        (_launch(part, "logits", "parts"), _launch(whole, "parts", "picked", "control")),
        {"parts": Expression(f"n * {stretches * 2 * 4}")},
        rows,
    )
    lists, steps, scratch = [likeliest_of_logits(vocabulary)], list[Launch](), dict[str, Expression]()
    count, source = -(-vocabulary // SORTED), "logits"
    while count > 1:
        name = f"lists{len(scratch)}"
        scratch[name] = Expression(f"n * {count * LIST_WORDS * 4}")
        steps.append(_launch(lists[-1], "control", source, name))
        source, lists = name, [*lists, likeliest_of_lists(count)]
        count = -(-count * CANDIDATES // SORTED)
    steps.append(_launch(lists[-1], "control", source, "picked"))
    made = {shader.name: shader for shader in (part, whole, *lists)}
    return {"best": best, "likeliest": ProgramFunction(tuple(steps), scratch, rows)}, made


def _launch(own: Shader, *buffers: str) -> Launch:
    scalars = tuple(Expression(scalar) for scalar in own.scalars)
    return Launch(own.name, buffers, (Expression(own.grid), Expression(1), Expression(1)), scalars)


def best_part(vocabulary: int) -> Shader:
    """Buffers: logits, parts: key and token of the best of each stretch."""
    return _shader(
        f"best_part_{vocabulary}",
        [Binding("logits", "f32"), Binding("parts", "u32", write=True)],
        {"VOCABULARY": vocabulary, "STRETCH": _STRETCH, "BLOCKS": -(-vocabulary // _STRETCH)},
        _BEST + _BEST_PART,
        blocks=-(-vocabulary // _STRETCH),
    )


def best_whole(stretches: int) -> Shader:
    """Buffers: parts, picked, control."""
    return _shader(
        f"best_whole_{stretches}",
        [
            Binding("parts", "u32"),
            Binding("picked", "u32", write=True),
            Binding("control", "u32", write=True),
        ],
        {"BLOCKS": stretches, "PAGE": PAGE_SIZE, "ROW_WORDS": ROW_WORDS, "PICKED_WORDS": PICKED_WORDS},
        _BEST + _BEST_WHOLE,
        blocks=1,
    )


def likeliest_of_logits(vocabulary: int) -> Shader:
    """Buffers: control, logits, and a list for each stretch."""
    return _likeliest(f"likeliest_{vocabulary}", "f32", vocabulary, _FROM_LOGITS)


def likeliest_of_lists(lists: int) -> Shader:
    """Buffers: control, lists, and one list for several of them."""
    return _likeliest(f"likeliest_of_lists_{lists}", "u32", lists * CANDIDATES, _FROM_LISTS)


def _likeliest(name: str, kind: str, entries: int, source: str) -> Shader:
    blocks = -(-entries // SORTED)
    last = blocks == 1
    constants: dict[str, Number] = {
        "ENTRIES": entries,
        "SORTED": SORTED,
        "THREADS": _THREADS,
        "BLOCKS": blocks,
        "CANDIDATES": CANDIDATES,
        "LIST_WORDS": LIST_WORDS,
        "ROW_WORDS": ROW_WORDS,
    }
    return _shader(
        name,
        [Binding("control", "u32"), Binding("source", kind), Binding("found", "u32", write=True)],
        constants,
        _KEYS + source + _SORT.replace("STORED", "bitcast<u32>(logit(keys[i]))" if last else "keys[i]"),
        blocks=blocks,
    )


def _shader(
    name: str, bindings: list[Binding], constants: dict[str, Number], body: str, blocks: int
) -> Shader:
    return shader(
        name,
        bindings=bindings,
        constants=constants,
        body=body,
        threads=_THREADS,
        grid=f"n * {blocks}",
        scalars={"n": "n", "tokens": "tokens"},
        about={"op": name.rsplit("_", 1)[0]},
    )


_BEST = (
    _KEYS
    + """
var<workgroup> keys: array<u32, 256>;
var<workgroup> tokens: array<u32, 256>;

// The best of all threads' goes to the first.
fn gather(thread: u32, key: u32, token: u32) {
  keys[thread] = key;
  tokens[thread] = token;
  for (var half = 128u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half && before(keys[thread + half], tokens[thread + half], keys[thread], tokens[thread])) {
      keys[thread] = keys[thread + half];
      tokens[thread] = tokens[thread + half];
    }
  }
}
"""
)

_BEST_PART = """
fn run(block: u32, thread: u32) {
  let row = block / BLOCKS;
  if (row >= scalars.n) { return; }
  let first = (block % BLOCKS) * STRETCH;
  var most = 0u;
  var token = 0xffffffffu;
  for (var i = first + thread; i < min(first + STRETCH, scalars.tokens); i += 256u) {
    let found = key(logits[row * VOCABULARY + i]);
    if (found > most) { most = found; token = i; }
  }
  gather(thread, most, token);
  if (thread == 0u) {
    parts[block * 2u] = keys[0];
    parts[block * 2u + 1u] = tokens[0];
  }
}
"""

_BEST_WHOLE = """
fn run(block: u32, thread: u32) {
  if (block >= scalars.n) { return; }
  var most = 0u;
  var token = 0xffffffffu;
  for (var i = block * BLOCKS + thread; i < (block + 1u) * BLOCKS; i += 256u) {
    if (before(parts[2u * i], parts[2u * i + 1u], most, token)) {
      most = parts[2u * i];
      token = parts[2u * i + 1u];
    }
  }
  gather(thread, most, token);
  if (thread == 0u) {
    let place = control[block * ROW_WORDS + 1u];
    let to = block * PICKED_WORDS + place % PAGE * 2u;
    picked[to] = tokens[0];
    picked[to + 1u] = bitcast<u32>(logit(keys[0]));
    control[block * ROW_WORDS] = tokens[0];
    control[block * ROW_WORDS + 1u] = place + 1u;
  }
}
"""

# key_of, token_of: an entry of the source. weight_of: what it adds to the sum, against the largest.
_FROM_LOGITS = """
fn key_of(row: u32, entry: u32) -> u32 {
  if (entry >= scalars.tokens) { return 0u; }
  return key(source[row * ENTRIES + entry]);
}
fn token_of(row: u32, entry: u32) -> u32 { return entry; }
fn weight_of(row: u32, entry: u32, highest: f32, cold: f32) -> f32 {
  if (entry >= scalars.tokens) { return 0.0; }
  return exp((source[row * ENTRIES + entry] - highest) * cold);
}
"""

_FROM_LISTS = """
fn list_of(row: u32, entry: u32) -> u32 {
  return (row * (ENTRIES / CANDIDATES) + entry / CANDIDATES) * LIST_WORDS;
}
fn key_of(row: u32, entry: u32) -> u32 {
  if (entry >= ENTRIES) { return 0u; }
  return source[list_of(row, entry) + CANDIDATES + entry % CANDIDATES];
}
fn token_of(row: u32, entry: u32) -> u32 {
  if (entry >= ENTRIES) { return 0xffffffffu; }
  return source[list_of(row, entry) + entry % CANDIDATES];
}
fn weight_of(row: u32, entry: u32, highest: f32, cold: f32) -> f32 {
  if (entry >= ENTRIES || entry % CANDIDATES != 0u) { return 0.0; }
  let list = list_of(row, entry);
  let own = source[list + CANDIDATES];
  if (own == 0u) { return 0.0; }
  return exp((logit(own) - highest) * cold) * bitcast<f32>(source[list + 2u * CANDIDATES]);
}
"""

# A bitonic sort, whose steps are the same whatever the numbers are.
_SORT = """
var<workgroup> keys: array<u32, SORTED>;
var<workgroup> tokens: array<u32, SORTED>;
var<workgroup> sums: array<f32, THREADS>;

fn run(block: u32, thread: u32) {
  let row = block / BLOCKS;
  if (row >= scalars.n) { return; }
  let first = (block % BLOCKS) * SORTED;
  for (var i = thread; i < SORTED; i += THREADS) {
    keys[i] = key_of(row, first + i);
    tokens[i] = token_of(row, first + i);
  }
  for (var span = 2u; span <= SORTED; span *= 2u) {
    for (var step = span / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      for (var pair = thread; pair < SORTED / 2u; pair += THREADS) {
        let one = pair / step * 2u * step + pair % step;
        let other = one + step;
        let falls = (one & span) == 0u;
        if (before(keys[other], tokens[other], keys[one], tokens[one]) == falls) {
          let key = keys[one];
          let token = tokens[one];
          keys[one] = keys[other];
          tokens[one] = tokens[other];
          keys[other] = key;
          tokens[other] = token;
        }
      }
    }
  }
  workgroupBarrier();
  let highest = logit(keys[0]);
  let cold = bitcast<f32>(control[row * ROW_WORDS + 3u]);
  var sum = 0.0;
  for (var i = first + thread; i < first + SORTED; i += THREADS) { sum += weight_of(row, i, highest, cold); }
  sums[thread] = sum;
  workgroupBarrier();
  let to = block * LIST_WORDS;
  for (var i = thread; i < CANDIDATES; i += THREADS) {
    found[to + i] = tokens[i];
    found[to + CANDIDATES + i] = STORED;
  }
  if (thread == 0u) {
    var total = 0.0;
    for (var i = 0u; i < THREADS; i++) { total += sums[i]; }
    found[to + 2u * CANDIDATES] = bitcast<u32>(total);
  }
}
"""
