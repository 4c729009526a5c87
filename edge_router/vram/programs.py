"""What a model takes on a GPU through WebGPU: `program.footprint`, without the program, from its shape alone.

Buffers are made once, at load, and are all that is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_router.architectures.quantization import WORD_BYTES, Quantization
from edge_router.vram.products import Product, product
from edge_router.vram.shapes import ModelShape
from edge_router.webgpu_program import CANDIDATES, PAGE_SIZE, PICKED_WORDS, ROW_WORDS, SORTED
from edge_router.webgpu_program.memory import UNIFORM_SLOT, WORD, Windows, pages_per_sequence

_UNIFORMS = 10  # sets of numbers that the functions of a Llama's program are given
_OF_EXPERTS = 7  # more, where it has experts


def program_products(
    shape: ModelShape, form: Quantization, windows: Windows, kv_cache: str = "auto"
) -> Iterator[Product]:
    """Vectors are float32 on the device, whatever the files hold."""
    context, sequences = windows.context, windows.sequences
    yield from _parameters(shape, form)
    window = shape.window if shape.whole_window and shape.window is not None else context
    slides = window < context
    pages = sequences * pages_per_sequence(window if slides else 0, windows)
    page = {"tokens_each": PAGE_SIZE, "heads": shape.kv_heads}
    if kv_cache == "int8":
        page["bytes_with_their_scale"] = shape.head_dim + WORD
    else:
        page |= {"channels": shape.head_dim, "bytes": 2}
    layers = shape.attention_layers
    yield product("kv_cache", "keys and values", pages=pages, keys_and_values=2, layers=layers, **page)
    yield product("workspace", "a page on its way", **page)
    yield from _activations(shape, windows, sinks=slides and shape.sinks > 0)
    logits = {"rows": sequences, "vocabulary": shape.vocabulary, "bytes": WORD}
    yield product("workspace", "logits on their way to the host", **logits)
    chosen = {"rows": sequences, "words": PICKED_WORDS, "bytes": WORD}
    yield product("workspace", "tokens on their way to the host", **chosen)
    yield product("workspace", "rotary table", positions=context, channels=shape.head_dim, bytes=WORD)
    yield product("workspace", "logits", **logits)
    yield product("workspace", "likeliest tokens", **chosen)
    words = windows.rows * ROW_WORDS + sequences * windows.pages_per_sequence
    yield product("workspace", "rows and page tables", words=words, bytes=WORD)
    sets = _UNIFORMS if shape.experts is None else _UNIFORMS + _OF_EXPERTS
    yield product("workspace", "uniforms", sets=sets, bytes=UNIFORM_SLOT)


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


def _activations(shape: ModelShape, windows: Windows, *, sinks: bool) -> Iterator[Product]:
    """Three buffers in turn: the widest thing in a layer, what leads to it, and the stream.

    Queries are there twice where `sinks` see them otherwise than the window does. The lists in which the
    likeliest tokens are looked for take the place of the first two. Beside them what experts give each token,
    twice: of one layer, and of the next.
    """
    qkv = shape.query_width + 2 * shape.key_width
    widest = max(shape.intermediate, qkv, shape.query_width)
    middle = max(shape.hidden, (2 if sinks else 1) * shape.query_width)
    widest, middle = max(widest, middle), min(widest, middle)
    chunk, sequences = windows.chunk, windows.sequences
    widths = {"widest": widest, "middle": middle, "stream": shape.hidden}
    if shape.experts is not None:
        given = shape.experts.chosen * shape.hidden
        widths = {"of experts": given, "of experts, next": given, "widest": widest, "stream": middle}
        routes = max(2 * shape.experts.chosen * chunk, shape.hidden)
        yield product("workspace", "which experts are taken", numbers=routes, bytes=WORD)
    lists = -(-shape.vocabulary // SORTED)
    for name, width in widths.items():
        numbers = lists * PICKED_WORDS if lists > 1 and name != "stream" else 0
        if sequences * numbers > chunk * width:
            yield product("workspace", "lists of tokens", rows=sequences, numbers=numbers, bytes=WORD)
        else:
            yield product("workspace", f"activations, {name}", tokens=chunk, numbers=width, bytes=WORD)
        lists = -(-lists * CANDIDATES // SORTED)
