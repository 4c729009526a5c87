"""The numpy model of each architecture, held against transformers on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architecture_kinds import KINDS

from edge_router.compile.readers import open_weights
from edge_router.compile.weights.parameters import parameters
from edge_router.compile.weights.reference import Reference


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_computes_what_transformers_does(kind: str, twins: Any, tiny: Any, tmp_path: Path) -> None:
    import torch

    architecture, numbers = KINDS[kind]
    theirs = twins.random_model(architecture, numbers)
    twins.write_checkpoint(theirs, tmp_path, tiny)
    model = Reference(open_weights(tmp_path))
    tokens = np.random.default_rng(1).integers(0, 288, 60).tolist()
    with torch.no_grad():
        wanted = theirs(torch.tensor([tokens])).logits[0].numpy()
    parts = [model.hidden(tokens[:25]), model.hidden(tokens[25:])]
    found = model.logits(np.concatenate(parts))
    assert np.abs(found - wanted).max() < 2e-4 * wanted.std()


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_each_parameter_meets_is_seen_once_a_text(
    kind: str, twins: Any, tiny: Any, tmp_path: Path
) -> None:
    architecture, numbers = KINDS[kind]
    twins.write_checkpoint(twins.random_model(architecture, numbers), tmp_path, tiny)
    reader = open_weights(tmp_path)
    wanted = {p.name: p.shape for p in parameters(reader.config, kind) if p.kind in ("linear", "head")}
    wanted.setdefault("lm_head", (288, 128))
    seen: list[tuple[str, int, int]] = []
    texts = [[5, 6, 7], [8, 9]]
    for _ in Reference(reader).observe(texts, lambda name, inputs: seen.append((name, *inputs.shape))):
        pass
    assert sorted(seen) == sorted(
        (name, len(text), shape[1]) for name, shape in wanted.items() for text in texts
    )
