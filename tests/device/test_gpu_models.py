"""GPUs by name: each is found however it is written, and no two are one."""

from __future__ import annotations

import pytest

from edge_router.device.gpu_models import GIB, find_gpu, gpu_models
from edge_router.errors import UnknownName


def test_each_is_found_by_its_name_and_by_what_drivers_call_it() -> None:
    prefixes = {"cuda": "NVIDIA GeForce ", "vulkan": "", "metal": ""}
    models = gpu_models()
    for name, model in models.items():
        for written in (name, name.lower(), name.replace(" ", ""), prefixes[model.device] + name):
            assert find_gpu(written) == model, written
    assert len({repr(model) for model in models.values()}) == len(models)
    assert find_gpu("AMD Radeon RX 7600") is not find_gpu("RX 7600 XT")
    assert find_gpu("Intel(R) Arc(TM) B580 Graphics").memory == 12 * GIB


def test_what_is_stated_is_in_reason() -> None:
    """Bytes and bytes per second: a slip of the pen would be off by a thousand."""
    for model in gpu_models().values():
        assert model.memory is None or 4 * GIB <= model.memory <= 200 * GIB, model
        assert 60e9 <= model.bandwidth <= 5e12, model


@pytest.mark.parametrize("name", ["", "   ", "RTX", "Voodoo 2", "nvidia"])
def test_what_is_none_is_an_error_with_names(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        find_gpu(name)
    assert "RTX 3060" in caught.value.known
