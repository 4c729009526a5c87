"""What is told of the models that may be asked for: from the card before one is loaded, no alias twice."""

from __future__ import annotations

import pytest

from edge_router import Controller, ScriptedEngine, ScriptedRouter
from edge_router.errors import StrongNotConfigured, UnknownModel

WEAK = "SmolLM2-135M-Instruct"


def test_a_model_that_is_not_loaded_is_told_of_from_its_card() -> None:
    with Controller(router=ScriptedRouter(0.5, name="word")) as controller:
        known = {info.name: info for info in controller.models()}
        weak = known[WEAK]
        told = (weak.architecture, weak.parameters, weak.quantization, weak.form, weak.memory, weak.loaded)
        assert told == ("llama", 134_515_008, "q4f16_1", "mlc", None, False)
        assert weak.size is not None and weak.parameters is not None
        assert 0.5 < weak.size / weak.parameters < 0.7  # four bits each, and their scales
        assert [info.name for info in known.values() if info.own and info.dimension is None] == [WEAK]
        assert "strong" not in known
        with pytest.raises(StrongNotConfigured):
            controller.model("strong")
        with pytest.raises(UnknownModel):
            controller.model("strongest")


def test_what_is_configured_is_listed_under_its_own_name_and_ours() -> None:
    weak, strong = ScriptedEngine(model_id="small"), ScriptedEngine(model_id="big")
    with Controller(weak=weak, strong=strong, router=ScriptedRouter(0.5, name="word")) as controller:
        known = {info.name: info.own for info in controller.models() if info.dimension is None}
        assert {name for name, own in known.items() if own} == {"small", "big"}
        assert {"auto", "weak", "strong", "router-word"} <= known.keys()
        assert controller.model("small:latest").name == "small:latest"
        (loaded,) = (info for info in controller.models() if info.loaded and info.local and info.own)
        assert (loaded.name, loaded.parameters, loaded.size) == ("small", None, None)
