"""Rows looked up in a quantized table."""

from __future__ import annotations

from dataclasses import asdict

from edge_router.compile.webgpu.wgsl import Binding, Shader, shader
from edge_router.records import dataclass
from edge_router.webgpu_program import ROW_WORDS

_THREADS = 64


@dataclass(frozen=True, slots=True)
class Table:
    """Rows `first` to `first + rows` of a table in q4f16_1, all multiplied by `factor`."""

    columns: int
    rows: int
    first: int = 0
    factor: float = 1.0


def take(table: Table) -> Shader:
    """The row of each token that this part of the table has; other rows of y are left as they are.

    Buffers: control, words, scales, y. A thread unpacks one word.
    """
    words = table.columns // 8
    blocks = -(-words // _THREADS)
    return shader(
        _name(table),
        bindings=[
            Binding("control", "u32"),
            Binding("words", "u32"),
            Binding("scales", "u32"),
            Binding("y", "f32", write=True),
        ],
        constants={
            "WORDS": words,
            "ROWS": table.rows,
            "FIRST": table.first,
            "BLOCKS": blocks,
            "THREADS": _THREADS,
            "ROW_WORDS": ROW_WORDS,
            "FACTOR": float(table.factor),
        },
        body=_TAKE,
        threads=_THREADS,
        grid=f"n * {blocks}",
        scalars={"n": "n"},
        about={"op": "take", **asdict(table)},
    )


def _name(table: Table) -> str:
    words = [f"from{table.first}"] if table.first else []
    words += [f"times{table.factor:.6g}".replace(".", "p")] if table.factor != 1 else []
    return "_".join(["take", str(table.rows), str(table.columns), *words])


_TAKE = """
fn run(block: u32, thread: u32) {
  let row = block / BLOCKS;
  let column = (block % BLOCKS) * THREADS + thread;
  if (row >= scalars.n || column >= WORDS) { return; }
  let token = control[row * ROW_WORDS];
  if (token < FIRST || token >= FIRST + ROWS) { return; }
  let at = (token - FIRST) * WORDS + column;
  let pair = unpack2x16float(scales[at >> 3u]);
  let scale = select(pair.x, pair.y, ((at >> 2u) & 1u) == 1u) * FACTOR;
  let word = words[at];
  let to = (row * WORDS + column) * 8u;
  for (var i = 0u; i < 8u; i++) { y[to + i] = (f32((word >> (4u * i)) & 15u) - 7.0) * scale; }
}
"""
