"""A router small enough to be built in every test that needs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import RouterCard
from edge_router.routing.routers.tokens import Cut

MakeRouter = Callable[..., RouterCard]


@pytest.fixture
def make_router(tiny_encoder: Path, tmp_path: Path) -> MakeRouter:
    """`make_router(precision="float32", surface=("log_stem_length",), ...)` writes a router and gives its card."""
    from safetensors.numpy import load_file

    from edge_router.compile.router.graph import FactorHead, GraphSpec, Surface, build_router

    def make(
        name: str = "tiny",
        *,
        precision: str = "int8",
        surface: tuple[str, ...] = (),
        max_tokens: int = 16,
        below: int = 0,
        encoder: str = "",
    ) -> RouterCard:
        rng = np.random.default_rng(1)
        folder = tmp_path / "routers" / name
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_bytes((tiny_encoder / "tokenizer.json").read_bytes())
        ones = np.ones(len(surface), np.float32)
        head = FactorHead(
            projection=rng.normal(size=(16, 4)),
            weak_vector=rng.normal(size=4),
            strong_vector=rng.normal(size=4),
            surface=Surface(surface, ones, ones, ones) if surface else None,
            slope=0.5,
            intercept=0.1,
        )
        spec = GraphSpec(2, 2, 1e-12, Cut(max_tokens, 5, without_options=True), below)
        arrays = load_file(tiny_encoder / "model.safetensors")
        build_router(arrays, head, spec, folder / "router.onnx", precision)  # type: ignore[arg-type]
        tokenizer = "" if encoder else "tokenizer.json"
        return RouterCard(name, folder, "router.onnx", tokenizer, 0.4, max_tokens, "", "", "", {}, encoder)

    return make
