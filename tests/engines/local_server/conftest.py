"""Engines over stand-ins for local servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from local_servers import KINDS, StandIn

from edge_router.config.settings import Config
from edge_router.engines.local_server.engine import LocalServerEngine, load
from edge_router.types import SilentProgress

if TYPE_CHECKING:
    from edge_router.system.paths import Paths


@pytest.fixture
def engine_of(paths: Paths) -> Iterator[Callable[..., LocalServerEngine]]:
    """engine_of(server, "ollama", context_window_size=8192): an engine that is closed after the test."""
    made: list[LocalServerEngine] = []

    def make(server: StandIn, kind: str, **settings: Any) -> LocalServerEngine:
        given = {"model": KINDS[kind][1], "base_url": server.address, **settings}
        named = {f"weak.{name}": value for name, value in given.items()}
        config = Config().replace(**{"weak.engine": "remote", **named})
        made.append(load(config, paths, SilentProgress()))
        return made[-1]

    yield make
    for engine in made:
        engine.close()
