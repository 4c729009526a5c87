"""tests/compile/gpu/emulator.py, for the tests beside it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def emulator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emulator", Path(__file__).with_name("emulator.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["emulator"] = module
    spec.loader.exec_module(module)
    missing = module.missing()
    if missing is not None:
        pytest.skip(missing)
    return module


@pytest.fixture(scope="session")
def emulated(emulator: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CUDA's two libraries, as the emulator has them."""
    folder = tmp_path_factory.mktemp("emulated")
    emulator.build(folder)
    return folder


@pytest.fixture(scope="session")
def gpu(emulator: Any, emulated: Path) -> Iterator[Any]:
    """An emulated GPU whose threads go one after another."""
    made = emulator.Emulator(emulated)
    yield made
    made.close()


@pytest.fixture(scope="session")
def backwards(emulator: Any, emulated: Path) -> Iterator[Any]:
    """Another whose last thread goes first: where a barrier is missing the two disagree."""
    made = emulator.Emulator(emulated, EMULATED_ORDER="reverse")
    yield made
    made.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
