"""What a model takes on a GPU through WebGPU: `program.footprint`, without the program, from its shape alone.

Buffers are made once, at load, and are all that is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_router.program import PAGE_SIZE, ROW_WORDS
from edge_router.program.memory import UNIFORM_SLOT, WORD
from edge_router.quantization import WORD_BYTES, Quantization
from edge_router.vram.products import Product, product
from edge_router.vram.shapes import ModelShape

_UNIFORMS = 9  # sets of numbers that the functions of a Llama's program are given


def program_products(
    shape: ModelShape, form: Quantization, context: int, chunk: int, sequences: int
) -> Iterator[Product]:
    """Windows in tokens. Vectors are float32 on the device, whatever the files hold."""
    yield from _parameters(shape, form)
    pages = sequences * -(-context // PAGE_SIZE)
    page = {"tokens_each": PAGE_SIZE, "heads": shape.kv_heads, "channels": shape.head_dim, "bytes": 2}
    yield product("kv_cache", "keys and values", pages=pages, keys_and_values=2, layers=shape.layers, **page)
    yield product("workspace", "a page on its way", **page)
    yield from _activations(shape, chunk, sequences)
    logits = {"rows": sequences, "vocabulary": shape.vocabulary, "bytes": WORD}
    yield product("workspace", "logits on their way to the host", **logits)
    yield product("workspace", "rotary table", positions=context, channels=shape.head_dim, bytes=WORD)
    words = max(chunk, sequences) * ROW_WORDS + pages
    yield product("workspace", "rows and page tables", words=words, bytes=WORD)
    yield product("workspace", "uniforms", sets=_UNIFORMS, bytes=UNIFORM_SLOT)


def _parameters(shape: ModelShape, form: Quantization) -> Iterator[Product]:
    for tensor in shape.tensors():
        table = {"tensors": tensor.count, "rows": tensor.rows}
        if not form.quantizes(tensor.kind):
            yield product("parameters", tensor.name, **table, columns=tensor.columns, bytes=WORD)
            continue
        groups = form.groups(tensor.columns)
        words = {"words": groups * form.words_per_group, "bytes": WORD_BYTES}
        yield product("parameters", tensor.name, **table, **words)
        scales = {"groups": groups, "bytes": form.dtype_bytes}
        yield product("parameters", f"{tensor.name}, scales", **table, **scales)


def _activations(shape: ModelShape, chunk: int, sequences: int) -> Iterator[Product]:
    """Three buffers in turn: the widest thing in a layer, what leads to it, and the stream.

    Logits take the place of one that is free, and enlarge it if need be: those of several sequences the
    first, those of a prompt the last.
    """
    qkv = shape.query_width + 2 * shape.key_width
    widest = max(shape.intermediate, qkv, shape.query_width)
    middle = max(shape.hidden, shape.query_width)
    for name, width, rows in (
        ("activations, widest", widest, sequences),
        ("activations, middle", middle, 0),
        ("activations, stream", shape.hidden, 1),
    ):
        if rows * shape.vocabulary > chunk * width:
            yield product("workspace", "logits", rows=rows, vocabulary=shape.vocabulary, bytes=WORD)
        else:
            yield product("workspace", name, tokens=chunk, numbers=width, bytes=WORD)
