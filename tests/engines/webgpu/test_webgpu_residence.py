"""Which windows are allocated: what fits into what is free, and into what a shader sees."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from edge_router.config.settings import Config
from edge_router.device.vulkan import VulkanDevice
from edge_router.engines.webgpu import residence as module
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.residence import GpuResidence, memory_free
from edge_router.errors import OutOfMemory
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress
from edge_router.vram import Plan, total
from edge_router.webgpu_program import Windows

GIB, MIB = 1 << 30, 1 << 20
# Llama 3.2 3B
CHAT: dict[str, Any] = {
    "model_type": "llama",
    "quantization": "q4f16_1",
    "context_window_size": 32768,
    "prefill_chunk_size": 2048,
    "model_config": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "num_hidden_layers": 28,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
    },
}


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def gpu(kind: Any = "discrete", binding: int = 2 * GIB, name: str = "GeForce") -> Adapter:
    limits = {"max-storage-buffer-binding-size": binding, "max-buffer-size": 4 * GIB}
    return Adapter(name, kind, "vulkan", "1.2", frozenset(), limits, (0x10DE, 7), None)


def planned(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, adapter: Adapter, free: int | None, **weak: Any
) -> tuple[Windows, GpuResidence, list[str]]:
    monkeypatch.setattr(module, "memory_free", lambda adapter: free)
    monkeypatch.setattr(module, "free_memory", lambda: free)
    progress = Notes()
    config = Config.load(overrides={f"weak.{name}": value for name, value in weak.items()})
    residence = GpuResidence("Llama", CHAT, adapter, config, paths, progress)
    return residence.windows(), residence, progress.notes


def test_all_that_was_asked_where_it_fits(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, residence, notes = planned(paths, monkeypatch, gpu(), 24 * GIB)
    assert (windows.context, windows.chunk) == (32768, 2048) and 1 < windows.sequences <= 4
    assert planned(paths, monkeypatch, gpu(), 24 * GIB, max_sequences=1)[0] == Windows(32768, 2048, 1)
    within = planned(paths, monkeypatch, gpu(binding=128 * MIB), 24 * GIB)[0]
    assert (within.context, within.sequences) == (32768, 2)  # what one buffer shows of two contexts
    assert notes == []
    assert residence.plan is not None and residence.plan.fits


@pytest.mark.parametrize("kind", ["discrete", "integrated", "software"])
def test_less_where_less_is_free(paths: Paths, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    windows, residence, notes = planned(paths, monkeypatch, gpu(kind), 4 * GIB)
    assert 1024 <= windows.context < 32768
    assert residence.plan is not None and residence.plan.total <= residence.plan.budget
    assert any("context_window_size 32768 became" in note for note in notes)


def test_a_budget_of_the_users_own(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, residence, _ = planned(paths, monkeypatch, gpu(), 24 * GIB, vram_budget="3GiB", max_sequences=2)
    assert windows.context < 32768 and windows.sequences == 2
    assert residence.plan is not None and residence.plan.budget == 3 * GIB


def test_nothing_known_is_no_limit(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(paths, monkeypatch, gpu(), None)[0] == Windows(32768, 2048, 1)
    assert planned(paths, monkeypatch, gpu(), None, vram_budget="4GiB")[0].context < 32768


def test_no_room_at_all(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutOfMemory) as caught:
        planned(paths, monkeypatch, gpu(), GIB)
    assert caught.value.engine == "webgpu"
    assert caught.value.needed is not None and caught.value.needed > GIB


def test_a_shader_that_sees_little(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, _, notes = planned(paths, monkeypatch, gpu(binding=32 * MIB), 24 * GIB, max_sequences=2)
    assert windows.context == 32 * MIB // (8 * 128 * 2) // 2
    assert windows.chunk == 32 * MIB // (8192 * 4)
    assert [note.split(", so ")[1] for note in notes] == [
        "context_window_size 32768 became 8192",
        "prefill_chunk_size 2048 became 1024",
    ]
    assert "shows a shader 32.0 MiB of a buffer" in notes[0]


def test_a_router_on_the_same_gpu_is_planned_for(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_free", lambda adapter: 3 * GIB)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)

    def plan(provider: str) -> Plan:
        config = Config.load(overrides={"router.provider": provider})
        residence = GpuResidence("Llama", CHAT, gpu(), config, paths, SilentProgress())
        residence.windows()
        assert residence.plan is not None and residence.plan.total <= residence.plan.budget
        return residence.plan

    alone, both = plan("cpu"), plan("webgpu")
    assert total(alone.products, "router") == 0 < total(both.products, "router")
    assert both.settings.context_window_size < alone.settings.context_window_size


def test_memory_of_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*devices: VulkanDevice) -> int | None:
        monkeypatch.setattr(module, "vulkan_devices", lambda: devices)
        return memory_free(gpu())

    other = VulkanDevice("Iris", 0x8086, 1, 2 * GIB, GIB)
    assert told(other) is None
    assert told(other, VulkanDevice("GeForce", 0, 0, 8 * GIB, 5 * GIB)) == 5 * GIB
    assert told(VulkanDevice("NVIDIA GeForce", 0x10DE, 7, 8 * GIB, None)) == 8 * GIB


def test_rest(paths: Paths) -> None:
    config = Config.load(overrides={"weak.unload_after_s": 60})
    residence = GpuResidence("Llama", CHAT, gpu(), config, paths, SilentProgress())
    assert residence.rest.idle_s == 60
    assert not residence.rest.pressed()
