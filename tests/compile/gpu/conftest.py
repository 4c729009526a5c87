"""tests/compile/gpu/emulator.py, for the tests beside it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

REAL = os.environ.get("GPU_REQUIRED")  # what is emulated elsewhere then runs on a real one
EMULATED = os.environ.get("GPU_EMULATED")  # a folder in which the emulator is built already
RECORDED = os.environ.get("GPU_RECORDED")  # a file: kernels are listed there and not run


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def emulator() -> ModuleType:
    return load("emulator")


@pytest.fixture(scope="session")
def emulated(emulator: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CUDA's two libraries, as the emulator has them."""
    folder = Path(EMULATED) if EMULATED else tmp_path_factory.mktemp("emulated")
    if not (REAL or EMULATED or RECORDED):
        emulator.build(folder)
    return folder


@pytest.fixture(scope="session")
def gpu(emulator: Any, emulated: Path) -> Iterator[Any]:
    """An emulated GPU whose threads go one after another."""
    made = _opened(emulator, emulated)
    yield made
    made.close()


@pytest.fixture(scope="session")
def backwards(emulator: Any, emulated: Path) -> Iterator[Any]:
    """Another whose last thread goes first: where a barrier is missing the two disagree."""
    made = _opened(emulator, emulated, EMULATED_ORDER="reverse")
    yield made
    made.close()


def _opened(emulator: Any, emulated: Path, **environment: str) -> Any:
    if RECORDED:
        return emulator.Recorder(Path(RECORDED))
    return emulator.Emulator(emulator.REAL if REAL else emulated, **environment)


@pytest.fixture(scope="session")
def models(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """tests/compile/gpu/tiny_models.py, with `directory(name)`."""
    module, folder = load("tiny_models"), tmp_path_factory.mktemp("models")
    module.directory = lambda name: module.make(folder, name, tiny)  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="session")
def cubins() -> ModuleType:
    """tests/compile/gpu/cubins.py."""
    return load("cubins")


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """tests/gpu/visit/tables.py."""
    return load("../../gpu/visit/tables")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
