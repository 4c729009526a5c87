"""What doctor says of GPUs for WebGPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.cli.verbs import graphics
from edge_router.engines.webgpu import residence


def handle(name: str, kind: str, *features: str) -> Any:
    limits = {"max-buffer-size": 1 << 31, "max-storage-buffer-binding-size": 128 << 20}
    info = {"device": name, "adapter_type": kind, "backend_type": "Vulkan", "description": "1.2"}
    return SimpleNamespace(info=info, features=set(features), limits=limits)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    def told(*handles: Any) -> list[str]:
        gpu = SimpleNamespace(enumerate_adapters_sync=lambda: list(handles))
        monkeypatch.setitem(sys.modules, "wgpu", SimpleNamespace(gpu=gpu, __spec__=SimpleNamespace()))
        monkeypatch.setattr(residence, "memory_free", lambda adapter: 6_000_000_000)
        return [finding.text for finding in graphics.webgpu()]

    return told


def test_adapters(lines: Callable[..., list[str]]) -> None:
    assert lines(
        handle("GeForce", "DiscreteGPU", "shader-f16"), handle("Iris", "IntegratedGPU"), handle("pipe", "CPU")
    ) == [
        "GeForce (vulkan), discrete, 5.6 GiB free, buffers of 128 MiB at most, float16 arithmetic",
        "Iris (vulkan), integrated, buffers of 128 MiB at most, no float16 arithmetic: float32 is used",
        "pipe (vulkan, in software), buffers of 128 MiB at most, no float16 arithmetic: float32 is used, taken "
        'only when it is asked for, as with "chat --device vulkan"',
    ]


def test_none(lines: Callable[..., list[str]]) -> None:
    (text,) = lines()
    assert "no adapter" in text


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics, "find_spec", lambda name: None)
    (finding,) = graphics.webgpu()
    assert finding.state == "ok"
    assert "edge-router[webgpu]" in finding.text
