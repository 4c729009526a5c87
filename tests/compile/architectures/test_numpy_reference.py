"""The numpy model of each architecture, held against transformers on the same weights."""

from __future__ import annotations

from collections import Counter
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
def test_each_parameter_meets_every_token_once(kind: str, twins: Any, tiny: Any, tmp_path: Path) -> None:
    architecture, numbers = KINDS[kind]
    twins.write_checkpoint(twins.random_model(architecture, numbers), tmp_path, tiny)
    reader = open_weights(tmp_path)
    wanted = {p.name: p.shape for p in parameters(reader.config, kind) if p.kind in ("linear", "head")}
    wanted.setdefault("lm_head", (288, 128))
    seen: Counter[tuple[str, int]] = Counter()
    texts = [[5, 6, 7], [8, 9]]

    def look(name: str, inputs: np.ndarray) -> None:
        tokens, columns = inputs.shape
        seen[name, columns] += tokens

    for _ in Reference(reader).observe(texts, look):
        pass
    each = numbers.get("num_experts_per_tok")  # of which all but experts are one
    assert seen == {(name, shape[-1]): 5 * (each if len(shape) > 2 else 1) for name, shape in wanted.items()}


@pytest.mark.parametrize("kind", ["llama, llama3 rope", "gemma3", "exaone4, some windows"])
def test_texts_that_go_through_together_do_not_see_each_other(
    kind: str, twins: Any, tiny: Any, tmp_path: Path
) -> None:
    architecture, numbers = KINDS[kind]
    twins.write_checkpoint(twins.random_model(architecture, numbers), tmp_path, tiny)
    reader = open_weights(tmp_path)
    texts = [np.random.default_rng(seed).integers(0, 288, 30 + seed).tolist() for seed in range(3)]
    seen: list[np.ndarray] = []
    for _ in Reference(reader).observe(texts, lambda name, x: seen.append(x) if name == "lm_head" else None):
        pass
    alone = Reference(reader)
    wanted = []
    for text in texts:
        alone.reset()
        wanted.append(alone.hidden(text))
    assert np.abs(np.concatenate(seen) - np.concatenate(wanted)).max() < 1e-4
