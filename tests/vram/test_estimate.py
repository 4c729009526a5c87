"""The arithmetic against numbers computed by hand, and against MLC's own formula."""

from __future__ import annotations

import pytest

from edge_router.architectures.quantization import quantization
from edge_router.vram import ModelShape, Place, Settings, backend, estimate, total
from edge_router.vram.estimate import activation_width
from edge_router.vram.library import library_bytes, write_usage

MIB = 1 << 20
KIB = 1 << 10


def of(products, name):
    return next(item for item in products if item.name == name)


def plan(config, settings, device="mlc", **place):
    shape = ModelShape.of(config, "test")
    return estimate(shape, quantization(settings.quantization), settings, Place(backend(device), **place))


def test_the_worked_example_parameters_and_kv_cache(llama_8b):
    """Llama-3.1-8B q4f16_1: about 4,308 MiB of parameters, 128 KiB of KV cache for each token.

    Two pages more: one that TVM adds, and one without which MLC's engine does not go on.
    """
    products = plan(llama_8b, Settings("q4f16_1", 8192, 2048))
    assert round(total(products, "parameters") / MIB) == 4308
    assert total(products, "kv_cache") == (8192 + 2 * 16) * 128 * KIB


@pytest.mark.parametrize(("chunk", "aux", "model"), [(8192, 210, 128), (2048, 88.5, 32), (512, 58, 8)])
def test_the_worked_example_workspaces(llama_8b, chunk, aux, model):
    """MLC reserves 48 MiB where the TVM underneath takes 128 for the same arrays; all else is equal."""
    products = plan(llama_8b, Settings("q4f16_1", 8192, chunk))
    attention = sum(item.bytes for item in products if item.name.startswith("attention: "))
    assert (attention - 128 * MIB + 48 * MIB) / MIB == pytest.approx(aux, abs=0.6)
    assert of(products, "MLC's copies of embeddings and states").bytes / MIB == pytest.approx(model, abs=0.1)


def test_every_product_of_the_demo_model_by_hand(smol):
    products = plan(smol, Settings("q4f16_1", 2048, 512, 2), "cpu", threads=2, router=1000)
    by_hand = {
        # rows x columns / 8 words of 4 bytes, and a float16 scale for each 32
        "embedding": 49152 * 72 * 4,
        "embedding, scales": 49152 * 18 * 2,
        "norm before attention": 30 * 576 * 2,
        "norm before MLP": 30 * 576 * 2,
        "attention in": 30 * 960 * 72 * 4,
        "attention in, scales": 30 * 960 * 18 * 2,
        "attention out": 30 * 576 * 72 * 4,
        "attention out, scales": 30 * 576 * 18 * 2,
        "gate and up": 30 * 3072 * 72 * 4,
        "gate and up, scales": 30 * 3072 * 18 * 2,
        "down": 30 * 576 * 192 * 4,
        "down, scales": 30 * 576 * 48 * 2,
        "last norm": 576 * 2,
        # two sequences of 128 pages, and the runtime's one more
        "keys and values": 257 * 16 * 2 * 30 * 3 * 64 * 2,
        "attention: queries and results": 2 * 512 * 9 * 64 * 2,
        "attention: new keys and values": 2 * 512 * 3 * 64 * 2,
        "attention: softmax sums": 2 * 512 * 9 * 4,
        "activations": (512 + 1 + 2 + 7) * (5 * 576 + 960 + 576 + 2 * 1536) * 2,
        "logits": (5 + 7) * 49152 * 4,
        "its graph and session": 1000,
    }
    for name, expected in by_hand.items():
        assert of(products, name).bytes == expected, name
    assert total(products, "parameters") == 75_715_200


@pytest.mark.parametrize(
    ("chunk", "sequences", "usage"),
    [
        # memory_usage of paged_prefill, paged_decode and paged_batch_decode, as compiled for the demo model;
        # without the logits of others that a library for eight has room for
        (512, 1, 9_080_832 - 7 * 49_152 * 4 + 14_592 + 1_689_600),
        (512, 4, 9_080_832 - 4 * 49_152 * 4 + 14_592 + 1_689_600),
    ],
)
def test_the_formula_bounds_what_the_compiler_plans(smol, chunk, sequences, usage):
    products = plan(smol, Settings("q4f16_1", 4096, chunk, sequences), "cpu")
    bound = of(products, "activations").bytes + of(products, "logits").bytes
    assert usage <= bound <= usage * 1.5


def test_the_formula_bounds_mlcs_kernels_for_wide_models(llama_8b):
    width = activation_width(ModelShape.of(llama_8b, "test"))
    assert width >= 2 * 4096 + 3 * 14336


@pytest.mark.parametrize(("integers", "expected"), [(True, 512 * 48 * 72), (False, 512 * 1536 * 4)])
def test_x86_packs_activations_closer(smol, integers, expected):
    products = plan(smol, Settings("q4f16_1", 2048, 512), "cpu", integers=integers)
    assert of(products, "activations, repacked").bytes == expected


def test_the_kv_cache_of_float32_models_takes_four_bytes(gorilla):
    half = plan(gorilla, Settings("q4f16_1", 4096, 512))
    full = plan(gorilla, Settings("q4f32_1", 4096, 512))
    assert total(full, "kv_cache") == 2 * total(half, "kv_cache")


def test_gorilla_takes_what_its_users_met(gorilla):
    """About 3.7 GB of parameters, over 10 GB in all with the windows that MLC chooses (4 sequences)."""
    half = plan(gorilla, Settings("q4f16_1", 4096, 2048, 4))
    assert total(half, "parameters") / 1e9 == pytest.approx(3.9, abs=0.1)
    assert total(half) / 1e9 > 10


@pytest.mark.parametrize("context", [1, 15, 16, 17, 2047, 2048])
def test_whole_pages_are_counted(smol, context):
    for device, sequences, more in (("cpu", 1, 1), ("cuda", 3, 1), ("mlc", 1, 2), ("mlc", 3, 4)):
        products = plan(smol, Settings("q4f16_1", context, 1, sequences), device)
        pages = of(products, "keys and values").factors[0]
        assert pages == ("pages", sequences * ((context + 15) // 16) + more), device


def test_a_sliding_window_keeps_the_window_a_chunk_and_two_pages_more(mistral):
    settings = Settings("q4f16_1", 32768, 512, 2, sliding_window_size=4096)
    assert settings.attention_sink_size == 4
    assert settings.pages == 2 * ((4096 + 512) // 16 + 2) + 1
    assert Settings("q4f16_1", 1024, 512, sliding_window_size=4096).pages == 64 + 2 + 1


def test_a_gpu_with_its_own_memory_counts_no_process_and_of_the_router_what_is_there(smol):
    settings = Settings("q4f16_1", 2048, 512)
    cuda = plan(smol, settings, "cuda", router=99, process=99)
    assert total(cuda, "router") == 99
    assert {item.name for item in cuda if item.part == "runtime"} == {
        "driver and kernels",
        "allocations rounded up",
    }


def test_what_the_process_holds_already_is_taken_as_it_is(smol):
    settings = Settings("q4f16_1", 2048, 512)
    assert of(plan(smol, settings, "cpu", process=123), "this process").bytes == 123
    assert of(plan(smol, settings, "cpu"), "Python, numpy and the runtime").bytes == backend("cpu").context


def test_the_compiled_librarys_own_figure_replaces_the_formula(smol):
    products = plan(smol, Settings("q4f16_1", 2048, 512), "cpu", library=777)
    assert of(products, "the compiled library's buffers").bytes == 777
    assert not {"activations", "logits"} & {item.name for item in products}


def test_a_processor_touches_no_more_of_it_than_the_formula_says(smol):
    """A library for chunks of 2048 that is used with chunks of 64."""
    whole, settings = 30 * MIB, Settings("q4f16_1", 2048, 64)
    here, there = (plan(smol, settings, device, library=whole) for device in ("cpu", "cuda"))
    assert here == plan(smol, settings, "cpu")
    assert of(there, "the compiled library's buffers").bytes == whole


def test_a_library_says_what_it_takes(tmp_path):
    library = tmp_path / "model.so"
    assert library_bytes(library, 1) is None
    write_usage(
        library, {"embed": 1, "batch_prefill": 20, "decode": 300, "batch_decode": 4000, "batch_verify": 5}
    )
    assert (library_bytes(library, 1), library_bytes(library, 2)) == (321, 4321)
    write_usage(
        library, {"embed": 1, "decode": 2, "paged_prefill": 30, "paged_decode": 400, "paged_batch_decode": 5}
    )
    assert library_bytes(library, 1) == library_bytes(library, 2) == 435
    write_usage(library, {"embed": 1})
    assert library_bytes(library, 1) is None


def test_small_windows_leave_the_buffer_for_reading_weights_as_the_peak(smol):
    buffer = "buffer while weights are read"
    small = plan(smol, Settings("q4f16_1", 256, 64), "cpu")
    rest = total(small, "kv_cache") + total(small, "workspace")
    assert of(small, buffer).bytes == 32 * MIB - rest
    assert buffer not in {item.name for item in plan(smol, Settings("q4f16_1", 8192, 512), "cpu")}
    assert buffer not in {item.name for item in plan(smol, Settings("q4f16_1", 256, 64), "cuda")}


def test_allocations_on_a_gpu_are_rounded_to_its_pages(llama_8b):
    wasted = of(plan(llama_8b, Settings("q4f16_1", 8192, 512), "cuda"), "allocations rounded up").bytes
    # of the scales: attention's 1.5 MiB become 2 and 1 becomes 2, the MLP's 7 become 8 and 3.5 become 4
    scales = 32 * (0.5 + 1 + 1 + 0.5)
    tables = 2 * ((252 - 250.5) + (32 - 31.3125))
    assert wasted / MIB == scales + tables


@pytest.mark.parametrize(("device", "share"), [("cpu", 0.02), ("cuda", 0.03)])
def test_the_margin_is_larger_where_nothing_was_measured(smol, device, share):
    products = plan(smol, Settings("q4f16_1", 2048, 512), device)
    rest = total(products) - total(products, "margin")
    assert total(products, "margin") == pytest.approx(rest * share, abs=30)


def test_products_read_as_arithmetic(smol):
    text = str(of(plan(smol, Settings("q4f16_1", 2048, 512)), "keys and values"))
    assert (
        text == "130 pages x 16 tokens each x 2 keys and values x 30 layers x 3 heads x 64 channels x 2 bytes"
    )
