"""A config.json with an odd word in it is told by its key, whoever reads it."""

from __future__ import annotations

import json

import pytest
from table import each

from edge_router.catalog import model_cards
from edge_router.catalog.configs import read_config
from edge_router.compile.graphs.config import DecoderConfig
from edge_router.errors import InvalidModel, UnsupportedArchitecture
from edge_router.vram import ModelShape

GOOD = {
    **dict(model_cards()["Llama-3.2-1B-Instruct"].config),
    "head_dim": 64,
    "partial_rotary_factor": 1.0,
    "sliding_window": 4096,
    "text_config": None,
}
ODD = ("two", "", [], [1], {}, {"a": 1}, -1, 0, 0.5, 1e308, 10**40, True, False)


def read_all(folder):
    config = read_config(folder)
    ModelShape.of(config, str(folder))
    windows = {"context_window_size": 1024, "prefill_chunk_size": 512}
    DecoderConfig.read({**config, **windows}, str(folder)).rotary(str(folder))


def test_the_good_one_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(GOOD), encoding="utf-8")
    read_all(tmp_path)


@each("odd", ODD)
@each("key", sorted(GOOD))
def test_an_odd_word_is_told_or_does_no_harm(tmp_path, key, odd):
    (tmp_path / "config.json").write_text(json.dumps({**GOOD, key: odd}), encoding="utf-8")
    try:
        read_all(tmp_path)
    except (InvalidModel, UnsupportedArchitecture) as error:
        assert len(str(error)) < 1000


@each("key", ["factor", "low_freq_factor", "original_max_position_embeddings", "rope_type"])
@each("odd", (*ODD, None))
def test_an_odd_word_inside_what_scales_positions(tmp_path, key, odd):
    scaling = {**dict(GOOD["rope_scaling"]), key: odd}
    (tmp_path / "config.json").write_text(json.dumps({**GOOD, "rope_scaling": scaling}), encoding="utf-8")
    try:
        read_all(tmp_path)
    except InvalidModel as error:
        assert len(str(error)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "1e999",
        "[" * 3000 + "]" * 3000,
        '{"hidden_size": NaN}',
        '{"a":' * 3000 + "1" + "}" * 3000,
    ],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("name", ["config.json", "mlc-chat-config.json"])
def test_what_is_no_json_object_is_one_sentence(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidModel, match="not valid JSON"):
        read_config(tmp_path)
