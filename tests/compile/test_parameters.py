"""Which parameters a model has, and what is wrong with a configuration that has none."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router.catalog import find_model, model_cards
from edge_router.compile.parameters import count, parameters
from edge_router.errors import InvalidModel, UnsupportedArchitecture


def test_the_demo_model_has_its_numbers() -> None:
    wanted = parameters(find_model("SmolLM2-135M-Instruct").config, "demo")
    assert count(wanted) == 134_515_008
    assert [p.kind for p in wanted].count("linear") == 120


def test_published_sizes_of_llama_models() -> None:
    sizes = {"Llama-3.2-1B-Instruct": 1_235_814_400, "Llama-3.1-8B-Instruct": 8_030_261_248}
    for name, size in sizes.items():
        assert count(parameters(model_cards()[name].config, name)) == size


def test_other_architectures_are_named() -> None:
    with pytest.raises(UnsupportedArchitecture, match="'mamba'"):
        parameters({"model_type": "mamba"}, "somewhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"intermediate_size": "96"}, "intermediate_size is '96'"),
        ({"num_key_value_heads": 3}, "4 query heads over 3 key heads"),
        ({"attention_bias": True}, "attention_bias is set"),
    ],
)
def test_configurations_that_make_no_model(change: dict[str, Any], words: str, tiny: Any) -> None:
    with pytest.raises(InvalidModel, match=words):
        parameters(tiny.CONFIG | change, "somewhere")


def test_left_out_numbers_follow_from_the_others(tiny: Any) -> None:
    config = {k: v for k, v in tiny.CONFIG.items() if k not in ("num_key_value_heads", "head_dim")}
    fused = next(p for p in parameters(config, "tiny") if p.name.endswith("qkv_proj"))
    assert fused.source_rows == (64, 64, 64)
