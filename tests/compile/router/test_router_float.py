"""The float32 graph is the int8 one without the rounding of activations."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edge_router.catalog import router_cards
from edge_router.compile.router import float_graph
from edge_router.compile.router.float_graph import float32_graph, write_float32
from edge_router.errors import InvalidRouter, MissingExtra
from edge_router.routing.routers.loading import AGREEMENT, PROBES
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.routers.providers import PROVIDERS, Provider
from edge_router.store import ArtifactStore

INTEGERS = {"DynamicQuantizeLinear", "MatMulInteger"}


@pytest.mark.parametrize("name", ["bert", "static"])  # matrices and a table, in small files
def test_nothing_is_left_in_int8(name: str, tmp_path: Path) -> None:
    card = router_cards()[name]
    file = tmp_path / "float.onnx"
    write_float32(Path(str(card.directory / card.graph)), file)
    model = onnx.load(str(file))
    assert not INTEGERS & {node.op_type for node in model.graph.node}
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_the_scores_of_every_router_stay() -> None:
    cpu = PROVIDERS["cpu"]
    for card in router_cards().values():
        before = OnnxRouter(card).score_texts(PROBES)
        after = OnnxRouter(card, provider=Provider("float", cpu.execution, cpu.attach)).score_texts(PROBES)
        assert after == pytest.approx(before, abs=AGREEMENT)


def test_the_graph_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, store = router_cards()["static"], ArtifactStore(tmp_path / "store")
    made = float32_graph(card, store)
    monkeypatch.setattr(float_graph, "write_float32", None)
    assert float32_graph(card, store) == made
    (record,) = store.scan().records
    assert (record.kind, record.inputs["model"]) == ("router", "router static")


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x01garbage")
    with pytest.raises(InvalidRouter, match="not an ONNX file"):
        write_float32(tmp_path / "a.onnx", tmp_path / "b.onnx")


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float_graph, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        float32_graph(router_cards()["static"])
    assert caught.value.extra == "router-gpu"
