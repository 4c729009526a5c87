"""The device, its free memory and the budget, from the configuration and this machine."""

from __future__ import annotations

import pytest

from edge_router import vram
from edge_router.catalog import find_model, model_cards
from edge_router.config.router import RouterConfig
from edge_router.config.settings import Config
from edge_router.device import Gpu, host
from edge_router.errors import ConfigError, UnknownName
from edge_router.vram import ModelShape, Planner, Settings
from edge_router.vram import budget as memory_budget
from edge_router.vram.budget import memory_budget_for, router_bytes, window_request_of
from edge_router.vram.speed import bytes_per_token, decode_tokens_per_s

pytestmark = pytest.mark.integration

GIB = 1 << 30


def load(**values):
    return Config.load(
        overrides={name.replace("__", "."): value for name, value in values.items()}, environ={}
    )


def test_by_default_most_of_what_is_free_here(paths):
    here = host()
    room = memory_budget_for(load(), paths, found=here)
    assert (room.device, room.free, room.budget) == ("cpu", here.memory_free, int(here.memory_free * 0.9))
    assert room.place.threads == here.physical_cores
    assert room.place.router > 40 << 20


@pytest.mark.parametrize(
    ("text", "budget"), [("12GiB", 12 * GIB), ("50%", None), ("3000000000B", 3_000_000_000)]
)
def test_a_budget_of_the_users_own(paths, text, budget):
    here = host()
    room = memory_budget_for(load(weak__vram_budget=text, weak__threads=3), paths, found=here)
    assert room.budget == (budget or here.memory_free // 2)
    assert room.place.threads == 3


def test_an_amount_that_is_none_is_found_where_it_is_set():
    with pytest.raises(ConfigError, match=r"weak\.vram_budget"):
        load(weak__vram_budget="lots")


def test_a_gpu_of_ones_own(paths, monkeypatch):
    found = (Gpu("A", "nvidia", 12 * GIB, 9 * GIB), Gpu("B", "apple", 16 * GIB, 15 * GIB), Gpu("C", "nvidia"))
    monkeypatch.setattr(memory_budget, "gpus", lambda: found)
    room = memory_budget_for(load(weak__device="cuda"), paths)
    assert (room.device, room.free, room.budget) == ("cuda", 9 * GIB, int(9 * GIB * 0.9))
    assert room.place.router == 0, "the router works on the processor"
    assert memory_budget_for(load(weak__device="vulkan"), paths).free == 9 * GIB
    assert memory_budget_for(load(weak__engine="mlc"), paths).device == "mlc"


def test_a_gpu_that_is_not_here_can_be_planned_for_with_an_amount(paths, monkeypatch):
    monkeypatch.setattr(memory_budget, "gpus", tuple)
    room = memory_budget_for(load(weak__device="cuda", weak__vram_budget="12GiB"), paths)
    assert (room.free, room.budget) == (None, 12 * GIB)
    for text in ("80%", None):
        with pytest.raises(ConfigError, match="cannot be told here"):
            memory_budget_for(load(weak__device="cuda", weak__vram_budget=text), paths)
    with pytest.raises(UnknownName, match="cuda"):
        memory_budget_for(load(weak__device="tpu", weak__vram_budget="12GiB"), paths)


def test_routers_without_a_graph_take_nothing():
    for name in ("length", "somebody's own"):
        for provider in ("cpu", "webgpu"):
            assert router_bytes(RouterConfig(name, provider=provider), own_memory=False) == 0


def test_a_router_on_a_gpu_takes_that_gpus_memory(paths, monkeypatch):
    there, here = RouterConfig(provider="webgpu"), RouterConfig()
    widened = router_bytes(there, own_memory=True)
    assert router_bytes(here, own_memory=True) == 0 < widened
    assert router_bytes(there, own_memory=False) == router_bytes(here, own_memory=False) + widened
    monkeypatch.setattr(memory_budget, "gpus", lambda: (Gpu("A", "amd", 12 * GIB, 9 * GIB),))
    room = memory_budget_for(load(weak__device="vulkan", router__provider="webgpu"), paths)
    assert room.place.router == widened


def test_what_the_configuration_leaves_open_is_the_cards():
    card = find_model("SmolLM2-135M-Instruct")
    wish = window_request_of(load(), card)
    assert wish.context_window_size == card.context_window_size
    assert wish.prefill_chunk_size == card.prefill_chunk_size
    asked = window_request_of(
        load(weak__context_window_size=99, weak__prefill_chunk_size=9, weak__max_sequences=2), card
    )
    assert (asked.context_window_size, asked.prefill_chunk_size, asked.max_sequences) == (99, 9, 2)


@pytest.mark.parametrize("name", model_cards())
def test_every_card_can_be_planned_without_its_weights(name):
    card = find_model(name)
    shape = ModelShape.of(card.config, name)
    planner = Planner(name, shape, vram.Place(vram.backend("cuda")), 24 * GIB)
    plan = planner.best(window_request_of(load(), card))
    assert plan is not None and plan.settings.context_window_size == card.context_window_size
    assert shape.trained_context == card.max_context


def test_the_speeds_bound_is_the_bytes_that_a_token_reads(smol, llama_8b):
    tied, untied = ModelShape.of(smol, "test"), ModelShape.of(llama_8b, "test")
    settings = Settings("q4f16_1", 1000, 64)
    # the last layer is the embedding: all 75,715,200 bytes of weights, and keys and values of 500 tokens
    assert bytes_per_token(tied, settings) == 75_715_200 + 500 * 2 * 30 * 3 * 64 * 2
    # 8,030,261,248 weights, of which the table of 128,256 x 4,096 is not read
    weights = 8_030_261_248 - 128_256 * 4096 - 65 * 4096
    assert bytes_per_token(untied, settings) == weights * 9 // 16 + 65 * 4096 * 2 + 500 * 128 * 1024
    assert decode_tokens_per_s(tied, settings, 1e9) == pytest.approx(1e9 / bytes_per_token(tied, settings))
