"""Where a token's time goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_router.engines.webgpu import profile as module
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.profile import Profile, profile
from edge_router.webgpu_program import Windows

WINDOWS = Windows(64, 32)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMES", 3)


def test_every_launch_is_counted(adapter: Adapter, tiny_model: Any) -> None:
    found = profile(adapter, tiny_model.program, WINDOWS, tiny_model.read)
    launches = [
        launch for name in ("decode", "best") for launch in tiny_model.program.functions[name].launches
    ]
    assert found.launches == len(launches)
    assert found.context == 63
    assert found.encode_ms > 0 and found.python_ms > 0
    if "timestamp-query" in adapter.features:
        assert set(found.shaders) == {launch.shader for launch in launches}
        assert found.gpu_ms == pytest.approx(sum(found.shaders.values()))
        assert list(found.shaders.values()) == sorted(found.shaders.values(), reverse=True)
        assert found.bytes_per_s is not None and found.bytes_per_s > 0


def test_bytes_are_those_a_token_needs(adapter: Adapter, tiny_model: Any) -> None:
    found = profile(adapter, tiny_model.program, WINDOWS, tiny_model.read)
    vectors, head = 5 * 64 * 4, 288 * (64 // 2 + 64 // 32 * 2)  # the embedding's table is only looked up
    layer = (128 + 64 + 192) * (32 + 4) + 64 * (48 + 6)
    cache = 2 * 2 * 63 * 2 * 16 * 2
    assert found.bytes_read == vectors + head + 2 * layer + cache


def test_an_adapter_without_a_clock(adapter: Adapter, tiny_model: Any) -> None:
    plain = replace(adapter, features=frozenset())
    found = profile(plain, tiny_model.program, WINDOWS, tiny_model.read)
    assert found.gpu_ms is None and found.bytes_per_s is None and found.shaders == {}
    assert found.to_dict()["gigabytes_per_s"] is None


def test_as_json() -> None:
    found = Profile("GPU", 5, 63, 0.12345678, 0.2, 2.0, 4_000_000, {"a": 1.5, "b": 0.5})
    assert found.to_dict() == {
        "adapter": "GPU",
        "launches_per_token": 5,
        "context": 63,
        "encode_ms": 0.1235,
        "python_ms": 0.2,
        "gpu_ms": 2.0,
        "gigabytes_per_s": 2.0,
        "shaders_ms": {"a": 1.5, "b": 0.5},
    }


def test_a_side_of_the_bench(adapter: Adapter, tiny_model: Any) -> None:
    from edge_router.bench.weak_sides import Ours

    side = Ours(
        {
            "engine": "webgpu",
            "device": adapter.backend,
            "model_dir": str(tiny_model.directory),
            "library": str(tiny_model.file),
            "threads": 1,
            "context_window_size": 128,
            "prefill_chunk_size": 64,
        }
    )
    assert side.prefill("Hello there", [0] * 11) > 0
    assert side.decode("Something else", [0] * 14, 4) > 0
    assert side.ttft("Hi") > 0
    side._engine.close()
