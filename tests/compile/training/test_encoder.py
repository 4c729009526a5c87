from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.errors import InvalidModel
from edge_router.routing.routers.tokens import Cut
from edge_router.system.telemetry import load_onnxruntime
from edge_router.types import SilentProgress

pytestmark = pytest.mark.reference
TEXTS = ["what is easy ?", "", "why is the hard . prove a b c ?"]


@pytest.fixture
def load_encoder() -> Any:
    from edge_router.compile.training import encoder

    return encoder.load_encoder


def test_padding_changes_no_embedding(tiny_encoder: Path, load_encoder: Any) -> None:
    from edge_router.compile.training.embed import embed, tokenize

    encoder = load_encoder(tiny_encoder)
    rows = tokenize(tiny_encoder / "tokenizer.json", TEXTS, Cut(32))
    together = embed(encoder, rows, SilentProgress())
    alone = np.concatenate([embed(encoder, [row], SilentProgress()) for row in rows])
    assert together == pytest.approx(alone, abs=1e-6)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-6)


def test_torch_and_the_graph_agree(tiny_encoder: Path, load_encoder: Any, tmp_path: Path) -> None:
    import torch

    from edge_router.compile.router.graph import FactorHead, GraphSpec, build_router
    from edge_router.compile.training.embed import pad

    encoder = load_encoder(tiny_encoder)
    ids, mask = pad([[2, 6, 7, 8, 3], [2, 5, 3]])
    zero = np.zeros(4)
    spec = GraphSpec(2, 2, 1e-12, Cut(32, 8))
    build_router(
        encoder.arrays(), FactorHead(np.zeros((16, 4)), zero, zero), spec, tmp_path / "r.onnx", "float32"
    )
    session = load_onnxruntime().InferenceSession(
        str(tmp_path / "r.onnx"), providers=["CPUExecutionProvider"]
    )
    feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    with torch.inference_mode():
        wanted = encoder(ids, mask).numpy()
    assert session.run(["embedding"], feed)[0] == pytest.approx(wanted, abs=2e-6)


def test_some_layers_of_a_checkpoint(tiny_encoder: Path, load_encoder: Any) -> None:
    import torch

    whole, upper = load_encoder(tiny_encoder), load_encoder(tiny_encoder, (1,))
    assert upper.shape.layers == 1
    name = "intermediate.dense.weight"
    assert torch.equal(
        upper.state_dict()[f"encoder.layer.0.{name}"], whole.state_dict()[f"encoder.layer.1.{name}"]
    )


def test_batches_hold_every_row_once_and_neighbours_in_length() -> None:
    from edge_router.compile.training.embed import batches

    lengths = [5, 1, 9, 3, 7]
    found = list(batches(lengths, size=2))
    assert sorted(i for batch in found for i in batch) == [0, 1, 2, 3, 4]
    assert [lengths[i] for batch in found for i in batch] == sorted(lengths)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"model_type": "gpt2"}, "not a BERT"), ({"hidden_size": None}, "no 'hidden_size'")],
)
def test_another_architecture_is_refused(
    tiny_encoder: Path, load_encoder: Any, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_encoder, folder)
    config = json.loads((folder / "config.json").read_text("utf-8")) | change
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidModel, match=reason):
        load_encoder(folder)


def test_a_layer_that_is_not_there_is_named(tiny_encoder: Path, load_encoder: Any) -> None:
    with pytest.raises(InvalidModel, match=r"no tensor encoder\.layer\.0"):
        load_encoder(tiny_encoder, (7,))
