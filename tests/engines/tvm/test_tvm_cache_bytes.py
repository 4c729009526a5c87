"""How many bytes a KV cache takes: what is said where it finds no room, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from table import each

from edge_router.architectures.quantization import QUANTIZATIONS, quantization
from edge_router.engines.tvm.cache import PagedCache, Sizes
from edge_router.engines.tvm.metadata import Metadata
from edge_router.vram import ModelShape, Place, Settings, backend, estimate, total


@each("name", QUANTIZATIONS)
@each("sequences", [1, 3])
@each("kept", ["auto", "int8"])
def test_what_a_kv_cache_needs_is_what_was_planned_for_it(name: str, sequences: int, kept: str) -> None:
    """In each format's own numbers; TVM's has one page more."""
    heads = {"num_hidden_layers": 5, "num_key_value_heads": 3, "head_dim": 64}
    pages = {"pages": {"window": 0, "sinks": 0, "dtype": kept}} if kept == "int8" else {}
    said = Metadata(Path("lib.so"), {"quantization": name, "kv_cache": heads, **pages})
    numbers = {
        **heads,
        "model_type": "llama",
        "hidden_size": 192,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "vocab_size": 100,
        "max_position_embeddings": 4096,
    }
    form, settings = quantization(name), Settings(name, 1000, 64, sequences, kv_cache=kept)
    products = estimate(ModelShape.of(numbers, "m"), form, settings, Place(backend("cpu")))
    each_head = 64 + 2 if kept == "int8" else 64 * (4 if "f32" in name else 2)  # a byte each, and a scale
    page = 16 * 2 * 5 * 3 * each_head
    needed = said.cache_bytes(Sizes(1000, 64, sequences))
    assert needed == total(products, "kv_cache") - page == sequences * 63 * page


@each("name", QUANTIZATIONS)
@each("sinks", [0, 4, 20])
@each("eight_bits", [False, True])
def test_what_a_sliding_cache_needs_is_what_it_takes(name: str, sinks: int, eight_bits: bool) -> None:
    heads = {"num_hidden_layers": 2, "num_key_value_heads": 3, "head_dim": 8}
    stored = "float32" if "f32" in name else "float16"  # numpy has no bfloat16
    stored = "int8" if eight_bits else stored
    kept = {"window": 100, "sinks": sinks, "dtype": stored}
    said = Metadata(Path("lib.so"), {"quantization": name, "kv_cache": heads, "pages": kept})
    sizes = Sizes(4096, 32, 2)
    functions: Any = dict.fromkeys(PagedCache.functions)

    class Ffi:
        @staticmethod
        def from_dlpack(memory: Any) -> Any:
            assert memory.nbytes == said.cache_bytes(sizes)
            return memory

    PagedCache(Ffi, functions, None, sizes, kept, heads)


def test_a_library_of_an_unknown_format_does_not_say_what_it_needs() -> None:
    for values in ({"quantization": "q9f99", "kv_cache": {}}, {}):
        assert Metadata(Path("lib.so"), values).cache_bytes(Sizes(100, 10, 1)) is None
