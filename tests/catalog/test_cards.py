"""Cards: what ships is right, and what is wrong is named by file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from table import each

from edge_router.catalog import (
    HubSource,
    LocalSource,
    PypiSource,
    model_cards,
    parse_model_card,
    parse_router_card,
    router_cards,
)
from edge_router.catalog.configs import architecture_of
from edge_router.errors import InvalidModel, InvalidRouter

CARD = """
name = "Tiny"
architecture = "llama"
license = "MIT"
context_window_size = 2048
prefill_chunk_size = 512
max_context = 4096

[source]
kind = "hub"
repo = "someone/Tiny"

[config]
hidden_size = 64
"""
SHA = "0" * 64


def write(tmp_path: Path, text: str, name: str = "Tiny.toml") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_card_is_read_with_its_defaults(tmp_path: Path) -> None:
    card = parse_model_card(write(tmp_path, CARD))
    assert card.source == HubSource("someone/Tiny", "main", ())
    assert (card.quantization, card.quantizer, card.url) == ("q4f16_1", "round", "")
    assert card.moments is None and card.original is None
    assert card.config == {"hidden_size": 64}


@pytest.mark.parametrize(
    ("table", "source"),
    [
        (
            f'kind = "pypi"\npackage = "p"\nversion = "1"\nsha256 = "{SHA}"\nmember = "m/f"\nwheel_bytes = 9',
            PypiSource("p", "1", SHA, "m/f", wheel_bytes=9),
        ),
        (
            'kind = "hub"\nrepo = "a/b"\nrevision = "v1"\nfiles = ["*.bin"]',
            HubSource("a/b", "v1", ("*.bin",)),
        ),
        ('kind = "local"\npath = "/models/tiny"', LocalSource(Path("/models/tiny"))),
    ],
)
def test_every_kind_of_source(tmp_path: Path, table: str, source: object) -> None:
    text = CARD.replace('kind = "hub"\nrepo = "someone/Tiny"', table)
    assert parse_model_card(write(tmp_path, f"{text}\n[original]\n{table}\n")).original == source
    assert parse_model_card(write(tmp_path, text)).source == source


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('license = "MIT"\n', "", "license is missing"),
        ('"MIT"', "7", "license must be a text, not 7"),
        ('"MIT"', '""', "license must be a text"),
        ("max_context = 4096", "max_context = true", "max_context must be a whole number"),
        ("max_context = 4096", "max_context = 0", "max_context must be a whole number"),
        ("max_context = 4096", "max_context = 1024", "context_window_size is more than max_context"),
        ("prefill_chunk_size = 512", "prefill_chunk_size = 4000", "prefill_chunk_size is more than"),
        ('name = "Tiny"', 'name = "Huge"', "name must be the file's own name, 'Tiny'"),
        ('kind = "hub"', 'kind = "ftp"', "source.kind must be one of pypi, hub, local, not 'ftp'"),
        ('repo = "someone/Tiny"', "", "source.repo is missing"),
        ('repo = "someone/Tiny"', 'repo = "a/b"\nfiles = ["a", 1]', "source.files must be a list of texts"),
        ('repo = "someone/Tiny"', 'repo = "a/b"\nbranch = "x"', "source.branch is not a key of a card"),
        (
            'kind = "hub"',
            'kind = "pypi"\npackage = "p"\nversion = "1"\nsha256 = "ABC"',
            "source.sha256 must be",
        ),
        ("[config]", "[configuration]", "config is missing"),
        ("[config]\nhidden_size = 64", "", "config is missing"),
        (
            'license = "MIT"',
            'license = "MIT"\nquantizer = "magic"',
            "quantizer must be one of gptq, weighted",
        ),
        ('license = "MIT"', 'license = "MIT"\ncolour = "red"', "colour is not a key of a card"),
        ("max_context = 4096", "max_context = ", "not valid TOML"),
    ],
)
def test_a_bad_card_names_the_file_and_the_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = write(tmp_path, CARD.replace(old, new))
    with pytest.raises(InvalidModel) as caught:
        parse_model_card(file)
    assert caught.value.where == str(file) and said in caught.value.reason


def test_a_card_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read: No such file"):
        parse_model_card(tmp_path / "Tiny.toml")
    (tmp_path / "Tiny.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidModel, match="not valid TOML"):
        parse_model_card(tmp_path / "Tiny.toml")


ROUTER = """
name = "mf"
graph = "router.onnx"
tokenizer = "tokenizer.json"
default_threshold = 0.3
max_tokens = 256

[metrics.eval_dev]
apgr = 0.6
"""


def router(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "mf"
    folder.mkdir()
    for name in ("router.onnx", "tokenizer.json"):
        (folder / name).touch()
    (folder / "card.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_router_card_is_read(tmp_path: Path) -> None:
    card = parse_router_card(router(tmp_path, ROUTER))
    assert (card.name, card.default_threshold, card.max_tokens) == ("mf", 0.3, 256)
    assert card.metrics == {"eval_dev": {"apgr": 0.6}}
    assert (card.directory / card.graph).is_file()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.3", "1.5", "default_threshold must be a number between 0 and 1"),
        ("0.3", "true", "default_threshold must be"),
        ('"router.onnx"', '"other.onnx"', "graph names 'other.onnx', which is not there"),
        ('name = "mf"', 'name = "bert"', "name must be the folder's own name"),
        ("max_tokens = 256", "max_tokens = 256\nspeed = 1", "speed is not a key"),
        ("max_tokens = 256", f"max_tokens = {'9' * 6000}", "not valid TOML"),
        ("max_tokens = 256", f"max_tokens = {'[' * 3000}", "not valid TOML"),
    ],
)
def test_a_bad_router_card_names_the_file_and_the_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = router(tmp_path, ROUTER.replace(old, new))
    with pytest.raises(InvalidRouter) as caught:
        parse_router_card(folder)
    assert caught.value.where.endswith("card.toml") and said in caught.value.reason


def test_what_ships_can_be_read() -> None:
    cards = model_cards()
    assert list(cards) == sorted(cards) and "SmolLM2-135M-Instruct" in cards
    for name, card in router_cards().items():
        assert card.name == name and (card.directory / card.graph).is_file()


@each("name", sorted(model_cards()))
def test_the_numbers_of_every_card_agree_with_each_other(name: str) -> None:
    card = model_cards()[name]
    config = card.config

    def number(key: str, default: int | None = None) -> int:
        value = config.get(key, default)
        assert isinstance(value, int) and value > 0, key
        return value

    heads, kv_heads = number("num_attention_heads"), number("num_key_value_heads")
    hidden = number("hidden_size")
    assert heads % kv_heads == 0
    assert number("head_dim", hidden // heads) % 8 == 0
    assert "head_dim" in config or hidden % heads == 0
    assert number("vocab_size") > 30_000 and number("intermediate_size") > hidden
    assert number("num_hidden_layers") <= 128
    assert architecture_of(config, Path(name)) == card.architecture
    assert isinstance(config["tie_word_embeddings"], bool)
    assert isinstance(config["rms_norm_eps"], float) and 1e-7 < config["rms_norm_eps"] < 1e-3
    assert card.max_context <= number("max_position_embeddings")
    assert card.url.startswith("https://huggingface.co/") and card.license
    assert card.quantization == "q4f16_1"


# Parameters as published, in millions. Of SmolLM3 three digits are: 3.08 billion.
PUBLISHED = {
    "SmolLM3-3B": 3080,
    "DeepSeek-R1-Distill-Llama-8B": 8030,
    "DeepSeek-R1-Distill-Qwen-1.5B": 1777,
    "DeepSeek-R1-Distill-Qwen-7B": 7616,
    "Llama-3-8B-Instruct": 8030,
    "Llama-3.1-8B-Instruct": 8030,
    "Llama-3.2-1B-Instruct": 1236,
    "Llama-3.2-3B-Instruct": 3213,
    "Mistral-7B-Instruct-v0.2": 7242,
    "Mistral-7B-Instruct-v0.3": 7248,
    "Phi-3-mini-4k-instruct": 3821,
    "Phi-3.5-mini-instruct": 3821,
    "Phi-4-mini-instruct": 3836,
    "phi-4": 14660,
    "Qwen2.5-0.5B-Instruct": 494,
    "Qwen2.5-1.5B-Instruct": 1544,
    "Qwen2.5-3B-Instruct": 3086,
    "Qwen2.5-7B-Instruct": 7616,
    "Qwen3-0.6B": 596,
    "Qwen3-1.7B": 1721,
    "Qwen3-30B-A3B": 30532,  # as published, 30.5 billion
    "Qwen3-4B": 4022,
    "Qwen3-8B": 8191,
    "Qwen3-14B": 14768,
    "SmolLM2-1.7B-Instruct": 1711,
    "SmolLM2-135M-Instruct": 135,
    "SmolLM2-360M-Instruct": 362,
    "TinyLlama-1.1B-Chat-v1.0": 1100,
    "gemma-2-2b-it": 2614,
    "gemma-2-9b-it": 9242,
    "gemma-3-1b-it": 1000,
    "gemma-3-4b-it": 3880,  # the language part; the whole has 4300
    "gorilla-openfunctions-v1": 6738,
    "gorilla-openfunctions-v2": 6910,
    "granite-3.2-8b-instruct": 8170,
}


@each("name", sorted(model_cards()))
def test_the_numbers_of_every_card_add_up_to_the_published_size(name: str) -> None:
    """A wrong width, depth, vocabulary or head count would show here."""
    config = model_cards()[name].config

    def number(key: str) -> int:
        value = config[key]
        assert isinstance(value, int)
        return value

    hidden, heads, kv_heads = (
        number("hidden_size"),
        number("num_attention_heads"),
        number("num_key_value_heads"),
    )
    head = number("head_dim") if "head_dim" in config else hidden // heads
    attention = hidden * head * (heads + 2 * kv_heads) + heads * head * hidden
    bias = head * (heads + 2 * kv_heads) if config["model_type"] == "qwen2" else 0
    mlp = 3 * hidden * number("intermediate_size")
    if "num_experts" in config:  # each of them, and what rates them
        mlp = number("num_experts") * (3 * hidden * number("moe_intermediate_size") + hidden)
    norms = 2 * hidden
    embeddings = number("vocab_size") * hidden * (1 if config["tie_word_embeddings"] else 2)
    total = embeddings + number("num_hidden_layers") * (attention + bias + mlp + norms) + hidden
    assert total / 1e6 == pytest.approx(PUBLISHED[name], rel=0.0018, abs=0.51)


def test_the_routers_that_ship_take_at_most_25_megabytes() -> None:
    folders = [Path(str(card.directory)) for card in router_cards().values()]
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) <= 25_000_000
