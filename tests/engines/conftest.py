from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def reference_llama() -> Callable[[Path], Any]:
    """reference_llama(model directory) -> a `ReferenceLlama`, see tests/reference_llama.py."""
    file = Path(__file__).parents[1] / "reference_llama.py"
    spec = importlib.util.spec_from_file_location("reference_llama", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return functools.cache(module.ReferenceLlama)
