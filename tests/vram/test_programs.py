"""The plan for a GPU is the program's own footprint, to the byte."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router.architectures.quantization import quantization
from edge_router.catalog import model_cards
from edge_router.compile.webgpu.build import build_program
from edge_router.vram import ModelShape, total
from edge_router.vram.programs import program_products
from edge_router.webgpu_program import Program, Windows, footprint

pytestmark = pytest.mark.integration

EXACT = (
    "SmolLM2-135M-Instruct",
    "Llama-3.2-1B-Instruct",
    "Qwen3-0.6B",
    "Qwen2.5-0.5B-Instruct",
    "Qwen3-30B-A3B",
)


def numbers(name: str) -> dict[str, Any]:
    """MLC's, from a card's."""
    card = model_cards()[name]
    config = dict(card.config)
    return {
        **config,
        "model_type": card.architecture,
        "position_embedding_base": config.get("rope_theta"),
        "context_window_size": 4096,
        "prefill_chunk_size": 512,
    }


@pytest.fixture(scope="module", params=EXACT)
def both(request: pytest.FixtureRequest) -> tuple[ModelShape, Program]:
    """Two layers are enough to see every buffer."""
    config = {**numbers(request.param), "num_hidden_layers": 2}
    return ModelShape.of(config, request.param), build_program(config, "q4f16_1")


@pytest.mark.parametrize(
    "windows", [Windows(4096, 512), Windows(1000, 256, 3), Windows(2048, 2048), Windows(512, 64, 8)]
)
def test_every_part_is_the_programs(both: tuple[ModelShape, Program], windows: Windows) -> None:
    shape, program = both
    planned = tuple(program_products(shape, quantization("q4f16_1"), windows))
    found = footprint(program, windows)
    assert total(planned, "parameters") == found.weights
    assert total(planned, "kv_cache") == found.key_values
    work = found.total - found.weights - found.key_values
    assert abs(total(planned, "workspace") - work) <= 1024  # a set of uniforms more or less


@pytest.mark.parametrize(("window", "sinks"), [(256, -1), (700, 4), (4096, 4)])
@pytest.mark.parametrize("windows", [Windows(4096, 512), Windows(1000, 256, 3)])
def test_what_slides_takes_less(windows: Windows, window: int, sinks: int) -> None:
    config = {**numbers("Llama-3.2-1B-Instruct"), "num_hidden_layers": 2}
    config |= {
        "sliding_window_size": window,
        "attention_sink_size": sinks,
        "context_window_size": windows.context,
    }
    shape, program = ModelShape.of(config, "m"), build_program(config, "q4f16_1")
    planned = tuple(program_products(shape, quantization("q4f16_1"), windows))
    found = footprint(program, windows)
    assert total(planned, "kv_cache") == found.key_values
    assert abs(total(planned) - found.total) <= 1024


def test_keys_and_values_in_eight_bits_take_half() -> None:
    config = {**numbers("Llama-3.2-1B-Instruct"), "num_hidden_layers": 2}
    shape, windows = ModelShape.of(config, "m"), Windows(1000, 256, 3)
    whole, eight = (
        footprint(build_program({**config, "kv_cache": kept}, "q4f16_1"), windows)
        for kept in ("auto", "int8")
    )
    planned = tuple(program_products(shape, quantization("q4f16_1"), windows, "int8"))
    assert total(planned, "kv_cache") == eight.key_values == whole.key_values * (64 + 4) // (2 * 64)
    assert abs(total(planned) - eight.total) <= 1024


def test_other_architectures_come_near() -> None:
    config = {**numbers("gemma-2-2b-it"), "num_hidden_layers": 2, "tie_word_embeddings": True}
    shape, windows = ModelShape.of(config, "gemma"), Windows(4096, 512)
    planned = total(program_products(shape, quantization("q4f16_1"), windows))
    assert planned == pytest.approx(footprint(build_program(config, "q4f16_1"), windows).total, rel=0.02)
