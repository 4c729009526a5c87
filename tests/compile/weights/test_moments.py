"""Measuring activations and quantizers on a tiny model, and the texts that ship for it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.catalog import find_model
from edge_router.compile.readers import open_weights
from edge_router.compile.weights import moments, quality
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.parameters import parameters
from edge_router.compile.weights.reference import Reference
from edge_router.compile.weights.samples import documents, token_sequences
from edge_router.errors import InvalidModel

SEQUENCES = [[5, 9, 200, 17, 44], [3, 1, 250]]


@pytest.fixture
def few_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each text only its beginning: a conversation and a story."""
    kept = {
        name: [documents(name)[0][:300], documents(name)[2][:300]] for name in ("calibration", "evaluation")
    }
    monkeypatch.setattr("edge_router.compile.weights.samples.documents", lambda name: kept[name])


def test_moments_are_mean_squares_over_all_tokens(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    found = moments.mean_squares(reader, SEQUENCES)
    states = []
    model = Reference(reader)
    for tokens in SEQUENCES:
        model.reset()
        states.append(model.hidden(tokens))
    np.testing.assert_allclose(found["lm_head"], (np.concatenate(states) ** 2).mean(0), rtol=1e-4)
    fed = {parameter.name for parameter in parameters(reader.config, "tiny") if parameter.kind == "linear"}
    assert set(found) == fed | {"lm_head"}


def test_the_file_keeps_them(tiny_llama: Any, tmp_path: Path) -> None:
    activations = moments.measure(open_weights(tiny_llama.folder), SEQUENCES)
    more = moments.measure(open_weights(tiny_llama.folder), SEQUENCES, factors=4)
    moments.write_activations(tmp_path / "a.npz", activations)
    back = moments.read_activations((tmp_path / "a.npz").read_bytes())
    assert back.exponents == activations.exponents
    assert set(back.moments) == set(activations.moments)
    for name, values in activations.moments.items():
        np.testing.assert_allclose(back.moments[name], values, rtol=2e-3, atol=1e-6)
    assert not back.loadings and set(more.loadings) == set(more.moments)
    moments.write_activations(tmp_path / "b.npz", more)
    again = moments.read_activations((tmp_path / "b.npz").read_bytes())
    for name, values in more.loadings.items():
        assert values.shape == (len(more.moments[name]), 4)
        away = np.abs(again.loadings[name] - values) / np.sqrt(more.moments[name])[:, None]
        assert away.max() < 0.012  # half a step


def test_common_factors_are_found_again() -> None:
    rng = np.random.default_rng(3)
    loadings = rng.normal(0, 1, (60, 5)) * np.exp(rng.normal(0, 1, 60))[:, None]
    alone = 0.2 * (loadings**2).sum(1)
    made = (loadings @ loadings.T + np.diag(alone)).astype(np.float32)
    found = moments.common_factors(made, 5)
    scale = np.sqrt(np.diag(made))
    apart = (found @ found.T - loadings @ loadings.T) / np.outer(scale, scale)
    assert np.abs(apart).max() < 0.02
    more = moments.common_factors(made, 16)  # than there are
    assert (np.diag(made) > (more**2).sum(1)).all()
    assert (moments.common_factors(np.zeros((40, 40), np.float32), 8) == 0).all()


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04 nonsense", b"x" * 100])
def test_a_file_that_is_none_is_an_error(raw: bytes) -> None:
    with pytest.raises(InvalidModel, match=r"not a readable .npz file"):
        moments.read_activations(raw)


def test_uneven_inputs_are_equalized_and_even_ones_are_not(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    parameter = next(p for p in parameters(reader.config, "tiny") if p.name.endswith("0.mlp.gate_up_proj"))
    even = np.ones(64, np.float32)
    uneven = even.copy()
    uneven[::16] = 1000.0
    assert moments.best_exponent(reader, parameter, even) == 0.0
    assert moments.best_exponent(reader, parameter, uneven) > 0.0


def test_the_program_writes_the_file(
    tiny_llama: Any, tmp_path: Path, few_documents: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moments.main([str(tiny_llama.gguf), str(tmp_path / "out.npz")]) == 0
    assert "measured over" in capsys.readouterr().out
    assert moments.read_activations((tmp_path / "out.npz").read_bytes()).moments["lm_head"].shape == (64,)


def test_the_demo_models_file_fits_its_card() -> None:
    card = find_model("SmolLM2-135M-Instruct")
    assert card.moments is not None
    raw = (files("edge_router.models") / "cards" / card.moments).read_bytes()
    activations = moments.read_activations(raw)
    linear = {p.name: p for p in parameters(card.config, card.name) if p.kind == "linear"}
    assert set(activations.moments) == {*linear, "lm_head"}
    for name, parameter in linear.items():
        assert activations.moments[name].shape == parameter.shape[1:]
        assert (activations.moments[name] > 0).all() and np.isfinite(activations.moments[name]).all()
    assert set(activations.exponents) == {name for name, p in linear.items() if p.feeder}
    assert set(activations.loadings) == set(activations.moments) and len(raw) < 8 << 20
    for name, loadings in activations.loadings.items():
        assert loadings.shape[0] == len(activations.moments[name])
        assert ((loadings**2).sum(1) < 1.1 * activations.moments[name]).all(), name


def test_the_texts_are_different_and_long_enough() -> None:
    calibration, evaluation = documents("calibration"), documents("evaluation")
    assert sum(map(len, calibration)) > 15000 and sum(map(len, evaluation)) > 8000
    assert not set(calibration) & set(evaluation)
    assert sum(document.startswith("user: ") for document in evaluation) >= 8


def test_conversations_are_rendered_in_the_models_format(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    conversation, *_ = token_sequences(reader, "evaluation")
    assert documents("evaluation")[0].startswith("user: ")
    assert conversation[0] == 1 and conversation.count(2) == 4  # <|im_start|>, four turns ended


def test_a_model_without_a_template_reads_plain_text(tiny: ModuleType, tmp_path: Path) -> None:
    made = tiny.make(tmp_path / "plain")
    (made.folder / "tokenizer_config.json").write_text("{}")
    assert 1 not in token_sequences(open_weights(made.folder), "evaluation")[0]


def test_quality_of_the_model_itself_is_perfect(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    base, same = quality.compare(reader, [("same", open_weights(tiny_llama.gguf))], SEQUENCES)
    assert (base.quantizer, base.tokens, base.divergence, base.agreement) == ("unquantized", 8, 0.0, 1.0)
    assert same.divergence == pytest.approx(0, abs=1e-5) and same.agreement == 1.0
    model = Reference(reader)
    logits = np.concatenate([(model.reset(), model.logits(model.hidden(t))[:-1])[1] for t in SEQUENCES])
    logits = logits.astype(np.float64)
    chosen = np.array([token for tokens in SEQUENCES for token in tokens[1:]])
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(6), chosen]
    assert base.perplexity == pytest.approx(np.exp(losses.mean()), rel=1e-4)


def test_quantizing_costs_something_and_less_in_a_better_way(tiny_llama: Any, tmp_path: Path) -> None:
    reader = open_weights(tiny_llama.folder)
    rng = np.random.default_rng(1)
    sequences = [rng.integers(3, 260, 40).tolist() for _ in range(4)]
    activations = moments.measure(reader, sequences)
    others = []
    for name in ("weighted", "round"):
        (tmp_path / name).mkdir()
        others.append((name, quality.quantize_into(reader, tmp_path / name, name, activations)))
    _, better, plain = quality.compare(reader, others, sequences)
    assert 0 < better.divergence < 0.85 * plain.divergence
    assert plain.agreement < 1


def test_the_program_prints_a_table_or_json(
    tiny_llama: Any, tmp_path: Path, few_documents: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quality.main([str(tiny_llama.folder), "--quantizer", "round", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["quantizer"] for row in rows] == ["unquantized", "round"]
    file = tmp_path / "a.npz"
    moments.write_activations(file, Activations())
    assert quality.main([str(tiny_llama.folder), "--moments", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "quantizer", "unquantized", "gptq", "weighted", "signed", "round",
    ]  # fmt: skip
