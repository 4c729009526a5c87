from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge_router.config import StrongConfig
from edge_router.engines.keys import Key, NoKey
from edge_router.engines.openai import OpenAIEngine
from edge_router.paths import Paths

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[..., OpenAIEngine]:
    """make(url, key=..., offline=..., settings...): strong engines that are closed after the test."""

    def make(
        url: str, *, key: Key | NoKey | None = None, offline: bool = False, **settings: Any
    ) -> OpenAIEngine:
        defaults = {"model": "remote", "timeout_s": 0.3, "connect_timeout_s": 2.0, "max_retries": 0}
        config = StrongConfig(base_url=url, **{**defaults, **settings})
        engine = OpenAIEngine(config, offline=offline, keys=lambda _: key or NoKey())
        request.addfinalizer(engine.close)
        return engine

    return make


@pytest.fixture(scope="session")
def reference_llama() -> Callable[..., Any]:
    """reference_llama(model directory, ...) -> a `ReferenceLlama`, see tests/reference_llama.py."""
    file = Path(__file__).parents[1] / "reference_llama.py"
    spec = importlib.util.spec_from_file_location("reference_llama", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return functools.cache(module.ReferenceLlama)


@pytest.fixture(scope="session")
def batch_model(built_home: Path, built_model: CompiledModel) -> CompiledModel:
    """The demo model again, compiled for four sequences at once."""
    from edge_router.compile.pipeline import BuildSettings, ensure

    return ensure(built_model.card, BuildSettings(max_sequences=4), paths=Paths.under(built_home))
